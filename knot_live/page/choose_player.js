// Which player this browser can have, and why it is not the better one.

import { canPeer } from "./peer_socket.js";
import { PeerPlayer } from "./peer_player.js";
import { MediaSourcePlayer, canPlaySegments } from "./media_source_player.js";
import { canDecode, LivePlayer } from "./player.js";

// {Player, reason}: reason is null for WebCodecs, else the key of a sentence; Player null where nothing plays.
export async function choosePlayer(forced = null) {
    if (forced !== "mse" && (await canDecode())) return { Player: LivePlayer, reason: null };
    if (!canPlaySegments()) return { Player: null, reason: "problem.player" };
    if (forced === "mse") return { Player: MediaSourcePlayer, reason: "notice.fallback.mse" };
    return { Player: MediaSourcePlayer, reason: `notice.fallback.${globalThis.isSecureContext ? "missing" : "insecure"}` };
}

// The player of peer connections, where the server offers them and this browser can; else null.
export function peerPlayer(info) {
    return info?.webrtc && canPeer() ? PeerPlayer : null;
}

// A link's fragment as its values, which are cleared from the address at once: history and screen shares keep no token.
export function takeFragment() {
    const values = new URLSearchParams(location.hash.slice(1));
    if (location.hash) history.replaceState(null, "", location.pathname + location.search);
    return values;
}

export function socketUrl() {
    return `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/v1/session`;
}
