"""Diagnose why an endpoint cannot work at all, with the remedy: key, balance, model, address."""

import re
from collections.abc import Iterator
from typing import Any

import openai

from dyprag.augmentation.disguised import error_in
from dyprag.config import ApiSettings
from dyprag.errors import Stopped
from dyprag.runtime.proxies import proxy_of

ASK_AGAIN = 10.0  # timeout in seconds of diagnostic requests
NO_SUCH_HOST = ("name or service not known", "nodename nor servname", "no address associated", "getaddrinfo failed")
MOST_NAMES = 12
_KEY = re.compile(r"(?:incorrect|invalid) api key|api key (?:is )?(?:not valid|invalid|incorrect)", re.IGNORECASE)
_BALANCE = re.compile(r"billing|credit balance|insufficient (?:credit|balance|funds)", re.IGNORECASE)
_ACCOUNT = re.compile("quota|credit|billing|balance|exhausted|limit exceeded|free tier|api key", re.IGNORECASE)
_MODERATED = re.compile("moderat|flagged|content policy|safety", re.IGNORECASE)  # of what one request says


class MalformedBody(Exception):
    """An answer with status 200 that is not a chat completion."""


async def hopeless(
    client: openai.AsyncOpenAI, api: ApiSettings, error: Exception, worked: bool = False
) -> Stopped | None:
    """The error that every request would meet, given that of one; None if it is temporary or specific to one.

    Args:
        worked: whether the endpoint has answered another request.
    """
    if not isinstance(error, openai.APIStatusError):
        return None
    subject, status, message = f"the endpoint {client.base_url}", error.status_code, one_line(error)
    if status == 403 and (worked or _MODERATED.search(message)) and not _ACCOUNT.search(message):
        return None
    if status in (401, 403) or (status == 400 and _KEY.search(message)):
        names = f"{api.key_env} or augment.api.key_block"
        why = f"{status}: {message}" if status != 401 else "401"
        return Stopped(subject, f"it rejects the API key ({why})", f"Set {names}.")
    if status == 402 or (status == 400 and _BALANCE.search(message)):
        return Stopped(
            subject, f"the account's balance is exhausted ({message})", "Top up the account, then run again."
        )
    if status == 407:
        return _proxy_refuses(client, message)
    if status in (404, 405, 501):
        return await unknown_model(client, api, message, status)
    if status == 429 and {"insufficient_quota", "billing_not_active"} & {error.code, error.type}:
        return Stopped(subject, "the account's quota is exhausted", "Top up the account, then run again.")
    return None


async def unknown_model(client: openai.AsyncOpenAI, api: ApiSettings, message: str, status: int) -> Stopped:
    """Find out which one an endpoint does not know: the model, or the path of chat completions."""
    subject = f"the endpoint {client.base_url}"
    served = await served_models(client)
    if served is not None and api.model not in served:
        names = ", ".join(served[:MOST_NAMES]) + (f" and {len(served) - MOST_NAMES} more" * (len(served) > MOST_NAMES))
        return Stopped(subject, f"it serves no model {api.model!r} ({status}); it serves {names or 'none'}",
                       "Set augment.api.model to one of them.")  # fmt: skip
    base = str(client.base_url).rstrip("/")
    if served is None and await served_models(client.with_options(base_url=f"{base}/v1")) is not None:
        return Stopped(subject, f"it has no chat completions API ({status}), but there is one under {base}/v1",
                       f"Set augment.api.base_url={base}/v1.")  # fmt: skip
    above = base.removesuffix("/v1")
    if served is None and above != base and await served_models(client.with_options(base_url=above)) is not None:
        return Stopped(subject, f"it has no chat completions API ({status}), but there is one under {above}",
                       f"Set augment.api.base_url={above}.")  # fmt: skip
    return Stopped(
        subject, f"it does not know model {api.model!r}, or has no chat completions API ({status}: {message})",
        "Set augment.api.model to a model that it serves, and augment.api.base_url to the URL before "
        "/chat/completions, which usually ends with /v1.",
    )  # fmt: skip


async def served_models(client: openai.AsyncOpenAI) -> list[str] | None:
    """The names of the models that an endpoint serves; None if it does not list them."""
    try:
        listed: Any = await client.with_options(timeout=ASK_AGAIN, max_retries=0).models.list()
        return [str(model.id) for model in listed.data]
    except (openai.OpenAIError, AttributeError, TypeError, ValueError):
        return None


def unreachable(client: openai.AsyncOpenAI, error: Exception) -> Stopped | None:
    """Why no connection is possible; None if it may work at another time."""
    subject = f"the endpoint {client.base_url}"
    causes = list(_causes(error))
    text = " ".join(str(cause) for cause in causes).lower()
    if any(type(cause).__name__ in ("UnsupportedProtocol", "InvalidURL") for cause in causes):
        return Stopped(
            subject, "this is not a valid URL", "Set augment.api.base_url, such as http://localhost:8000/v1."
        )
    if proxy_of(str(client.base_url)) and any(type(cause).__name__ == "ProxyError" for cause in causes):
        return _proxy_refuses(client, one_line(error.__cause__ or error))
    if any(words in text for words in NO_SUCH_HOST):
        if proxy := proxy_of(str(client.base_url)):
            return Stopped(
                subject, f"the host name of its proxy cannot be resolved ({proxy})", "Correct or unset that variable."
            )
        return Stopped(subject, "the host name cannot be resolved", "Check augment.api.base_url and the network.")
    if "certificate_verify_failed" in text or "certificate verify failed" in text:
        return Stopped(subject, "its certificate cannot be verified",
                       "Set SSL_CERT_FILE to the CA's certificates, or correct augment.api.base_url.")  # fmt: skip
    if "wrong_version_number" in text or "record_layer_failure" in text:
        return Stopped(subject, "it does not speak TLS", "Set augment.api.base_url to http:// instead of https://.")
    return None


def _proxy_refuses(client: openai.AsyncOpenAI, message: str) -> Stopped:
    proxy = proxy_of(str(client.base_url))
    return Stopped(
        f"the endpoint {client.base_url}",
        f"the proxy ({proxy or 'not from the environment'}) refuses the request: {message}",
        "Set the variable to http://USER:PASSWORD@HOST:PORT, or add the endpoint's host to NO_PROXY.",
    )  # fmt: skip


def base_address(url: str | None) -> str | None:
    """Remove /chat/completions from a base URL; None: the client's default."""
    if not url or not url.strip():
        return None
    return re.sub(r"/chat/completions$", "", url.strip().rstrip("/"))


def never_connected(error: Exception) -> bool:
    """Whether a request did not reach the endpoint."""
    return any(type(cause).__name__ in ("ConnectError", "ConnectTimeout", "ProxyError") for cause in _causes(error))


def strange(client: openai.AsyncOpenAI, message: str) -> Stopped:
    """The error for an endpoint whose answers are never chat completions."""
    return Stopped(
        f"the endpoint {client.base_url}", f"it answers, but not with chat completions: {message}",
        "Set augment.api.base_url to the URL before /chat/completions, which usually ends with /v1.",
    )  # fmt: skip


def described(answer: Any) -> str:
    """Describe an answer that is not a chat completion."""
    text = answer if isinstance(answer, str) else str(getattr(answer, "model_extra", None) or answer)
    kind = "a web page" if _is_web_page(text) else "this"
    return f"{kind}, {' '.join(text.split())[:80]!r}"


def _is_web_page(text: str) -> bool:
    return any(mark in text[:500].lower() for mark in ("<html", "<!doctype html"))


def said(error: BaseException) -> str:
    """The full message of an error, including a body that the client does not put into its message."""
    body = getattr(error, "body", None) if isinstance(error, openai.APIStatusError) else None
    inner = (error_in(body) or body) if isinstance(body, dict) else body
    message = (inner.get("message") or inner.get("detail")) if isinstance(inner, dict) else inner
    return f"{error} {message}" if message and str(message) not in str(error) else str(error)


def one_line(error: BaseException) -> str:
    """An error as one short line; for a web page, its title."""
    text = said(error)
    if _is_web_page(text):
        title = re.search(r"<title[^>]*>(.*?)</title>", text, re.IGNORECASE | re.DOTALL)
        return f"a web page, {' '.join(title[1].split())[:80]!r}" if title else "a web page"
    return re.sub(r"^Error code: \d+(?: -)? ?", "", " ".join(text.split()))[:300] or " ".join(text.split())


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and its causes. Callers compare class names, since the client has its own HTTP library."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
