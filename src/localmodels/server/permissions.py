"""What each route asks of its caller: the one page on which all grants stand.

Deny by default is in the structure: a route without an entry here, or an entry without a route, and the program does
not start (:class:`~localmodels.server.routes.Directory`). The check is made on the row that matched, after the path was
decoded, so that no spelling of an address reaches a handler past it.
"""

from __future__ import annotations

from collections.abc import Mapping

from localmodels.core.access import Grant

Grants = Mapping[str, Mapping[str, Grant]]

# The fleet (seed 000); each also with a slash behind it.
_FLEET: Grants = {
    "/api/servers": {"GET": "observe", "POST": "admin"},
    "/api/servers/{server_id}": {"GET": "observe", "PUT": "admin", "DELETE": "admin"},
    "/api/servers/{server_id}/discover": {"POST": "admin"},
    "/api/servers/{server_id}/models": {"GET": "observe"},
    "/api/models/servers": {"GET": "observe"},
    "/api/models/server/models": {"GET": "observe"},
    "/api/models/{model_id}": {"GET": "observe", "PUT": "admin", "DELETE": "admin"},
    "/api/models/{model_id}/check-availability": {"POST": "observe"},
    "/api/models/{model_id}/unload": {"POST": "manage"},
    "/api/models/{model_id}/unload-from-gpu": {"POST": "manage"},
    "/api/route": {"GET": "observe"},
}
FLEET: Grants = {path + slash: grants for path, grants in _FLEET.items() for slash in ("", "/")}

# By path, then by method. Ollama's routes under `/ollama` ask for what they ask for without it.
PERMISSIONS: Grants = {
    "/": {"GET": "open", "HEAD": "open"},
    "/health": {"GET": "open"},  # its details are for those who may observe
    "/metrics": {"GET": "observe"},
    "/openapi.json": {"GET": "list"},
    "/docs": {"GET": "list"},
    "/api/chat": {"POST": "infer"},
    "/api/generate": {"POST": "infer"},
    "/api/embed": {"POST": "infer"},
    "/api/embeddings": {"POST": "infer"},
    "/api/tags": {"GET": "list", "HEAD": "list"},
    "/api/show": {"GET": "list", "POST": "list"},
    "/api/ps": {"GET": "list"},
    "/api/version": {"GET": "list", "HEAD": "list"},
    "/api/pull": {"POST": "manage"},
    "/api/push": {"POST": "manage"},
    "/api/create": {"POST": "manage"},
    "/api/copy": {"POST": "manage"},
    "/api/delete": {"DELETE": "manage"},
    "/api/blobs/{digest}": {"HEAD": "manage", "POST": "manage"},
    "/v1/chat/completions": {"POST": "infer"},
    "/v1/completions": {"POST": "infer"},
    "/v1/rerank": {"POST": "infer"},
    "/v2/rerank": {"POST": "infer"},
    "/api/rerank": {"POST": "infer"},
    "/rerank": {"POST": "infer"},
    "/v1/embeddings": {"POST": "infer"},
    "/v1/responses": {"POST": "infer"},
    "/v1/responses/input_tokens": {"POST": "infer"},
    "/v1/responses/compact": {"POST": "infer"},
    "/v1/responses/{id}": {"GET": "infer", "DELETE": "infer"},  # its owner's alone
    "/v1/responses/{id}/cancel": {"POST": "infer"},
    "/v1/responses/{id}/input_items": {"GET": "infer"},
    "/v1/models": {"GET": "list"},
    "/v1/models/{id:path}": {"GET": "list"},
    "/v1/messages": {"POST": "infer"},
    "/v1/messages/count_tokens": {"POST": "infer"},
    "/models": {"GET": "list"},
    "/models/": {"GET": "list", "DELETE": "manage"},
    "/models/upload/": {"POST": "manage"},
    "/models/create/": {"POST": "manage"},
    "/models/deploy/": {"POST": "manage"},
    "/chat": {"POST": "infer"},
    "/chat/{model_name:path}": {"POST": "infer"},
    "/api/keys": {"GET": "admin", "POST": "admin"},
    "/api/keys/{id}": {"DELETE": "admin"},
    "/api/tasks": {"GET": "manage"},  # one's own; everybody's for administrators
    "/api/tasks/{uuid}": {"GET": "manage", "DELETE": "manage"},
    "/api/tasks/{uuid}/events": {"GET": "manage"},
    "/api/tasks/{uuid}/retry": {"POST": "manage"},
    "/api/usage": {"GET": "known"},  # one's own; that of others for those who may observe
    **FLEET,
    "/tokenize": {"POST": "infer"},
    "/detokenize": {"POST": "infer"},
}
