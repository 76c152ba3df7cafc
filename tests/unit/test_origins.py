"""Rules of origins and commit statuses."""

from __future__ import annotations

import itertools
import pathlib
import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fuseml.domain import commit_statuses, errors, origins
from fuseml.domain.registry import extension

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("url", "endpoint", "product", "expected"),
    [
        ("https://github.com/acme/churn.git", "", "", ("github", "https://github.com", "acme/churn")),
        ("https://github.com/acme/churn/", "", "", ("github", "https://github.com", "acme/churn")),
        ("https://gitlab.com/a/b/c/churn.git", "", "", ("gitlab", "https://gitlab.com", "a/b/c/churn")),
        ("https://codeberg.org/acme/churn", "", "", ("forgejo", "https://codeberg.org", "acme/churn")),
        ("https://git.example.com/acme/churn", "", "", ("git", "https://git.example.com", "acme/churn")),
        ("https://x.com/gitea/acme/churn.git", "https://x.com/gitea/", "gitea", ("gitea", "https://x.com/gitea", "acme/churn")),
        ("https://x.com:443/acme/churn", "https://x.com/", "GitLab", ("gitlab", "https://x.com:443", "acme/churn")),
        ("https://GitHub.com/acme/churn", "https://github.com/acme", "github", ("github", "https://GitHub.com", "acme/churn")),
        ("https://gitlab.com/a/b/churn", "https://gitlab.com/a", "gitlab", ("gitlab", "https://gitlab.com", "a/b/churn")),
        ("https://x.com/acme/churn", "https://x.com/acme", "gitea", ("gitea", "https://x.com", "acme/churn")),
        ("https://x.com/acme/churn", "https://other.com/", "gitlab", ("gitlab", "https://x.com", "acme/churn")),
    ],
)
def test_an_address_names_its_host_and_repository(url: str, endpoint: str, product: str, expected: tuple[str, str, str]) -> None:
    found = origins.read(url, endpoint=endpoint, product=product)
    assert (found.host, found.base, found.path) == expected


@pytest.mark.parametrize(
    ("endpoint", "url", "covered"),
    [
        ("https://git.example.com", "https://git.example.com/a/b", True),
        ("https://git.example.com/", "https://GIT.example.com:443/a/b", True),
        ("https://git.example.com/team", "https://git.example.com/team/a/b", True),
        ("https://git.example.com/team", "https://git.example.com/teams/a/b", False),
        ("https://git.example.com", "http://git.example.com/a/b", False),
        ("https://git.example.com", "https://git.example.com.evil.example/a/b", False),
        ("https://git.example.com", "https://git.example.com:8443/a/b", False),
        ("https://git.example.com", "https://git.example.com@evil.example/a/b", False),
    ],
)
def test_a_service_covers_the_addresses_below_its_own(endpoint: str, url: str, covered: bool) -> None:
    assert origins.covers(endpoint, url) is covered


@given(st.text(max_size=80))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    for url in (text, f"https://git.example.com/{text}", f"https://{text}/a/b"):
        try:
            found = origins.read(url)
        except errors.InvalidError:
            continue
        assert re.fullmatch(r"[\w.~+-]+(/[\w.~+-]+)*", found.path, re.ASCII)
        assert found.url.isprintable() and " " not in found.url
        assert ".." not in found.path.split("/") and "@" not in found.url.partition("://")[2].partition("/")[0]


def test_pauses_after_failures_grow_up_to_the_interval() -> None:
    assert [origins.pause(number, 300) for number in range(7)] == [300, 30, 60, 120, 240, 300, 300]
    assert origins.pause(10_000, 300) == 300


EVENTS = st.lists(
    st.tuples(st.integers(1, 3), st.sampled_from(["queued", "running", "waiting", "succeeded", "failed", "cancelled"])), max_size=12
)


@given(EVENTS)
def test_a_status_never_goes_back(seen: list[tuple[int, str]]) -> None:
    known: tuple[int, commit_statuses.State] | None = None
    for sequence, state in seen:
        value = commit_statuses.of_run("p", "w", f"w-{sequence}", state, None, "").state
        before = known
        if known is None or commit_statuses.is_newer(sequence, value, *known):
            known = (sequence, value)
        assert before is None or known[0] > before[0] or (known[0] == before[0] and (before[1] == "pending" or known == before))
    if seen:
        newest = max(sequence for sequence, _ in seen)
        assert known is not None and known[0] == newest
        ended = any(sequence == newest and state in ("succeeded", "failed", "cancelled") for sequence, state in seen)
        assert (known[1] != "pending") is ended


@given(st.text(max_size=400))
def test_a_description_is_one_bounded_line_without_active_characters(cause: str) -> None:
    status = commit_statuses.of_run("demo", "train", "train-1", "failed", cause, "https://fuseml.example.com/")
    assert len(status.description) <= commit_statuses.MAX_DESCRIPTION
    assert status.description.isprintable() or not re.search(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e]", status.description)
    assert status.target_url == "https://fuseml.example.com/runs/train-1"


def test_attempts_are_bounded() -> None:
    pauses = list(itertools.takewhile(lambda pause: pause is not None, (commit_statuses.pause(number) for number in itertools.count(1))))
    assert pauses == [10, 30, 120, 600, 3600]


@pytest.mark.parametrize("name", ["gitea", "forgejo", "github", "gitlab"])
def test_the_record_of_a_page_registers_the_host(name: str) -> None:
    page = (ROOT / "docs" / "tools" / f"{name}.md").read_text()
    text = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)[0]
    record = extension.Extension.model_validate(yaml.safe_load(text))
    [service] = record.services
    url = f"{service.endpoints[0].url}/acme/churn.git"
    assert service.category == "VCS" and origins.covers(service.endpoints[0].url, url)
    assert origins.read(url, endpoint=service.endpoints[0].url, product=record.product).host == name
