"""Requests whose length two servers could read differently (RFC 9112, 6.3): waitress accepts them, a proxy before it may see two requests."""

from __future__ import annotations

from waitress import parser


class StrictParser(parser.HTTPRequestParser):  # type: ignore[misc, unused-ignore]
    """Refuses a request with both lengths, and with chunks in a version that has none."""

    def parse_header(self, header_plus: bytes) -> None:
        """Raises ParsingError, which waitress answers with 400 and the end of the connection."""
        super().parse_header(header_plus)
        if self.chunked and "CONTENT_LENGTH" in self.headers:
            raise parser.ParsingError("Transfer-Encoding and Content-Length exclude each other")
        if "TRANSFER_ENCODING" in self.headers:
            raise parser.ParsingError("Transfer-Encoding needs HTTP/1.1")
