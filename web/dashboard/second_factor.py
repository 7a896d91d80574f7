"""Setting up a second factor: the picture, the first code, and the recovery codes, shown once."""

from typing import Any

from litestar import Response, get, post
from litestar.response import Redirect

from app.accounts import totp
from app.accounts.factors import processing as factors
from app.accounts.factors.processing import Enrolled
from app.accounts.identity import ENROL, CodeRefused, Identity
from app.errors import Problem, TooMany
from web.dashboard import access, cookies, forms
from web.dashboard.access import SIGNING_IN, Held, Req
from web.deps import runtime
from web.render import render


class FirstCode(forms.Sent):
    """The code that proves that the seed has arrived in an authenticator app."""

    code: str = ""


def refusal_words(refused: Problem) -> str:
    """Return what to tell about a code that was not taken."""
    if isinstance(refused, TooMany):
        return "There were too many tries. Wait a minute and try again."
    return refused.detail


async def set_up_page(
    request: Req, held: Identity, *, action: str, replaces: bool, error: str = ""
) -> Response[Any]:
    """Return the page with the seed that waits for its first code.

    Raises ConfirmationNeeded, WrongStage.
    """
    secret = await factors.begin_enrolment(runtime(request), identity=held)
    status = 422 if error else 200
    return render(
        request,
        "sign_in/set_up.html",
        status_code=status,
        csrf_token=held.csrf_token,
        uri=totp.address(secret, email=held.email),
        secret=secret,
        groups=" ".join(secret[index : index + 4] for index in range(0, len(secret), 4)),
        action=action,
        replaces=replaces,
        error=error,
    )


def codes_page(request: Req, codes: list[str], *, token: str, onward: str, step: str) -> Any:
    """Return the page that shows recovery codes for the only time."""
    return render(
        request,
        "sign_in/codes.html",
        csrf_token=token,
        codes=codes,
        text="\n".join(codes) + "\n",
        onward=onward,
        step=step,
    )


async def finish(request: Req, held: Identity) -> Enrolled:
    """Take the form's code as the proof. Raises CodeRefused, TooMany, ConfirmationNeeded."""
    form = await forms.read(request, FirstCode)
    return await factors.finish_enrolment(
        runtime(request), identity=held, code=form.code, origin=access.origin(request)
    )


@get("/sign-in/set-up", opt={"permission": SIGNING_IN})
async def show_set_up(request: Req, identity: Held) -> Response[Any]:
    """Show the picture to scan, to somebody who has no second factor yet."""
    if identity.stage != ENROL:
        return Redirect("/", status_code=303)
    return await set_up_page(request, identity, action="/sign-in/set-up", replaces=False)


@post("/sign-in/set-up", opt={"permission": SIGNING_IN})
async def set_up(request: Req, identity: Held) -> Response[Any]:
    """Check the first code; from here on the person is signed in."""
    if identity.stage != ENROL:
        return Redirect("/", status_code=303)
    try:
        enrolled = await finish(request, identity)
    except (CodeRefused, TooMany) as refused:
        return await set_up_page(
            request,
            identity,
            action="/sign-in/set-up",
            replaces=False,
            error=refusal_words(refused),
        )
    page: Response[Any] = codes_page(
        request,
        enrolled.recovery_codes,
        token=enrolled.opened.csrf_token,
        onward="/",
        step="Step 2 of 2",
    )
    cookies.keep_session(request, page, enrolled.opened.token)
    return page


router = access.own_pages(show_set_up, set_up)
