// A window of its own for part of the page: document picture-in-picture where there is one (with all its buttons), else
// that of the video alone.

const VARIABLES = [
    "--comfy-menu-bg", "--comfy-input-bg", "--input-text", "--descrip-text", "--border-color", "--fg-color", "--bg-color",
    "--p-primary-color", "--error-text",
];

export function canPopOut(video) {
    return !!window.documentPictureInPicture || (document.pictureInPictureEnabled && !!video.requestPictureInPicture);
}

// Shows `part` in a window; `onReturn` is called when that is closed, and puts it back. A function that closes it.
export async function popOut(part, video, stylesheet, onReturn) {
    if (!window.documentPictureInPicture) {
        await video.requestPictureInPicture();
        video.addEventListener("leavepictureinpicture", onReturn, { once: true });
        return () => document.exitPictureInPicture().catch(() => {});
    }
    const { width } = part.getBoundingClientRect();
    const size = Math.round(Math.max(320, Math.min(width, 640)));
    const other = await window.documentPictureInPicture.requestWindow({ width: size, height: size + 80 });
    dress(other.document, stylesheet);
    other.document.body.append(part);
    other.addEventListener("pagehide", onReturn, { once: true });
    return () => other.close();
}

function dress(page, stylesheet) {
    const link = page.createElement("link");
    Object.assign(link, { rel: "stylesheet", href: new URL(stylesheet, document.baseURI).href });
    page.head.append(link);
    const here = getComputedStyle(document.body);
    for (const name of VARIABLES) page.documentElement.style.setProperty(name, here.getPropertyValue(name));
    page.body.className = "knot-forcing-window";
    page.title = document.title;
}
