"""The page at `/docs`: Swagger UI from an installed wheel, so that it works without internet."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

ASSETS = ("swagger-ui-bundle.js", "swagger-ui.css", "favicon.png")

# The page itself is open; the schema behind it wants a key where the server wants one.
HTML = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Prediction API</title>
<link rel="stylesheet" href="docs/assets/swagger-ui.css">
<link rel="icon" href="docs/assets/favicon.png">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/assets/swagger-ui-bundle.js"></script>
<script>
let key = "";
async function show() {
  const head = key ? {"X-API-Key": key} : {};
  const answer = await fetch("openapi.json", {headers: head});
  if (answer.status === 401) {
    key = prompt("API key") || "";
    if (key) { return show(); }
  }
  const page = {
    spec: await answer.json(),
    dom_id: "#swagger-ui",
    deepLinking: true,
    docExpansion: "list",
    tryItOutEnabled: true,
    defaultModelsExpandDepth: 0,
    requestInterceptor: (request) => {
      if (key) { request.headers["X-API-Key"] = key; }
      return request;
    },
  };
  SwaggerUIBundle(page);
}
show();
</script>
</body>
</html>
"""


def assets_folder() -> Path:
    """Return the folder that holds Swagger UI's files: those of the fastapi-offline wheel."""
    spec = find_spec("fastapi_offline")
    assert spec is not None  # noqa: S101 - a dependency of ours
    assert spec.origin is not None  # noqa: S101 - a regular package
    return Path(spec.origin).parent / "static"
