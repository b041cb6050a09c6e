"""The demo page."""

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

router = APIRouter()
PAGE = Path(__file__).parents[1] / "page.html"
INLINE = "script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:"
HEADERS = {
    "Content-Security-Policy": f"default-src 'self'; {INLINE}; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}


@router.get("/", response_class=HTMLResponse, include_in_schema=False)
async def page() -> HTMLResponse:
    """Return the demo page."""
    return HTMLResponse(PAGE.read_text(encoding="utf-8"), headers=HEADERS)
