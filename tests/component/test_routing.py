"""Routes of functions match as those of Flask, and their addresses can still be built."""

from __future__ import annotations

import flask

from fuseml.runtime import routing
from fuseml.runtime.http import Api


def test_a_function_has_routes_whose_addresses_are_built_on_demand() -> None:
    api = Api("books", "Books.", tokens=None)

    @api.route("GET", "/books/<name>/<int:page>")
    def page(name: str, page: int) -> object:
        """A page."""
        return {"name": name, "page": page}

    assert {type(rule) for rule in api.app.url_map.iter_rules()} == {routing.Rule}
    assert api.app.test_client().get("/books/a%20b/7").get_json() == {"name": "a b", "page": 7}
    with api.app.test_request_context():
        built = flask.url_for("GET /books/<name>/<int:page>", name="a b", page=7, size="x")
    assert built == "/books/a%20b/7?size=x"
