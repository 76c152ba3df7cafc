"""The HTTP routes of the protocol."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fuseml.steps.inference import errors, service

if TYPE_CHECKING:
    from starlette.requests import Request

MODEL = ("/v2/models/{name}", "/v2/models/{name}/versions/{version}")
_HEADER_LENGTH = "Inference-Header-Content-Length"


def of(served: service.Service, version: str) -> list[Route]:
    """The routes for one model; `version` is that of the server."""

    async def server(_: Request) -> JSONResponse:
        return JSONResponse({"name": service.SERVER, "version": version, "extensions": list(service.EXTENSIONS)})

    async def live(_: Request) -> JSONResponse:
        return JSONResponse({"live": True})

    async def ready(_: Request) -> JSONResponse:
        return JSONResponse({"ready": True})

    async def metadata(request: Request) -> JSONResponse:
        return unknown(served, request) or JSONResponse(served.metadata())

    async def model_ready(request: Request) -> JSONResponse:
        return unknown(served, request) or JSONResponse({"name": served.name, "ready": True})

    async def infer(request: Request) -> Response:
        not_found = unknown(served, request)
        if not_found is not None:
            return not_found
        try:
            body, length = await served.infer_body(await request.body(), request.headers.get(_HEADER_LENGTH))
        except errors.RequestError as error:
            return refusal(400, str(error))
        except Exception as error:  # a fault of this server: the log gets the traceback
            traceback.print_exc()
            return refusal(500, f"a fault of the model server: {type(error).__name__}: {error}")
        if length is None:
            return Response(body, media_type="application/json")
        return Response(body, media_type="application/octet-stream", headers={_HEADER_LENGTH: str(length)})

    own = [Route("/v2", server), Route("/v2/health/live", live), Route("/v2/health/ready", ready)]
    for path in MODEL:
        own += [Route(path, metadata), Route(path + "/ready", model_ready), Route(path + "/infer", infer, methods=["POST"])]
    return own


def unknown(served: service.Service, request: Request) -> JSONResponse | None:
    """The response to a request for another model or version; None for this one."""
    name, number = request.path_params["name"], request.path_params.get("version", "")
    return None if served.has(name, number) else refusal(404, served.absent(name, number))


def refusal(status: int, message: str) -> JSONResponse:
    """An error response of the protocol, with a message on one bounded line."""
    return JSONResponse({"error": errors.line(message)}, status)
