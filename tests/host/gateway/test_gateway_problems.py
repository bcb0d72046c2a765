from __future__ import annotations

import json
from pathlib import Path

import pytest

from handfast.gateway.problems import _DETAIL, STATUS, Problem, problem_response
from handfast.gateway.server.problem import PROBLEMS as SERVERS_OWN

VECTORS = Path(__file__).parents[2] / "vectors" / "errors.json"


def test_statuses_are_those_of_the_vector_file() -> None:
    vectors = {slug: s for slug, s in json.loads(VECTORS.read_text()).items() if slug != "_"}
    assert vectors == STATUS | {slug: status for slug, (status, _) in SERVERS_OWN.items()}
    assert all(STATUS.get(slug, status) == status for slug, (status, _) in SERVERS_OWN.items())


def test_every_slug_says_what_to_do() -> None:
    assert _DETAIL.keys() == STATUS.keys()


@pytest.mark.parametrize("slug", STATUS)
def test_a_problem_is_an_rfc_9457_document(slug: str) -> None:
    response = problem_response(Problem(slug))
    document = json.loads(response.body)
    assert response.headers["content-type"] == "application/problem+json"
    assert response.status_code == document["status"] == STATUS[slug]
    assert document["type"] == f"urn:handfast:error:{slug}"
    assert document["title"]
    assert document["detail"].endswith(".")


@pytest.mark.parametrize("slug", ["token-missing", "token-unknown", "token-expired"])
def test_est_clients_are_challenged_for_a_token(slug: str) -> None:
    assert problem_response(Problem(slug)).headers["www-authenticate"] == 'Basic realm="handfast"'


def test_a_refused_certificate_is_not_challenged_for_a_token() -> None:
    assert "www-authenticate" not in problem_response(Problem("certificate-expired")).headers
