"""A LiveKit agent with a face: it joins a room, listens, and answers as a portrait.

pip install -e ".[livekit]"
LIVEKIT_URL=... LIVEKIT_API_KEY=... LIVEKIT_API_SECRET=... python clients/agents/livekit_portrait.py dev
"""

from functools import partial

from livekit.agents import Agent, AgentServer, AgentSession, JobContext, cli

from knot_core import load_model, open_image
from knot_live.agents.livekit import AvatarSession, KnotForcingVideo, join
from knot_live.session import Session

server = AgentServer()


def portrait() -> KnotForcingVideo:
    """What the avatar shows."""
    model = load_model()
    anchor = model.encode_anchor(open_image("knot_core/assets/portraits/ada.png"))
    session = Session(model, anchor, model.settings)
    return KnotForcingVideo(session, width=model.preset.width, height=model.preset.height)


@server.rtc_session()
async def answer(job: JobContext) -> None:
    await job.connect()
    agent = AgentSession(stt="deepgram/nova-3", llm="openai/gpt-4.1-mini", tts="cartesia/sonic-3")
    await AvatarSession(partial(join, video=portrait())).start(agent, job.room)
    await agent.start(agent=Agent(instructions="You are a portrait that talks. Be brief."), room=job.room)


if __name__ == "__main__":
    cli.run_app(server)
