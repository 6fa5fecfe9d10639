"""Answers that are no success: always a `Refusal` in JSON, never a page or a traceback."""

from typing import Final

from aiohttp import web

from wire.messages import Message, Refusal

_STATUS: Final = {
    "invite_used": 409,
    "bad_csr": 422,
    "not_now": 503,
}


def respond(message: Message, status: int = 200) -> web.Response:
    """`message` as the answer."""
    return web.json_response(text=message.model_dump_json(), status=status)


def refuse(status: int, code: str, sentence: str, fix: str = "") -> web.Response:
    """A refusal with its status."""
    return respond(Refusal(code=code, sentence=sentence, fix=fix), status)


def refused(refusal: Refusal) -> web.Response:
    """A refusal, with the status its code has: 403 unless it is of another kind."""
    return respond(refusal, _STATUS.get(refusal.code, 403))
