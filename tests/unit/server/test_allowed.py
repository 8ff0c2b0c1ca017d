"""What a caller may ask of the library: the registry's names are the owner's business, models those of the key."""

from __future__ import annotations

import pytest

from localmodels.core.access import ANYBODY, LOCAL, Caller
from localmodels.core.errors import Forbidden, InvalidValue
from localmodels.core.library import CreateRequest, PullRequest, PushRequest
from localmodels.server.library import check_models, creation, transfer

ADMIN = Caller("key_1", "root", frozenset({"admin"}))
MANAGER = Caller("key_2", "bob", frozenset({"manage"}))
NARROW = Caller("key_3", "eve", frozenset({"manage"}), ("mine*", "hf.co/me/*"))


@pytest.mark.parametrize(("caller", "operator"), [(LOCAL, True), (ADMIN, True), (MANAGER, False), (ANYBODY, False)])
def test_only_the_owner_names_hosts_of_the_local_network(caller: Caller, operator: bool) -> None:
    # Whatever the request says of itself.
    for said in (True, False):
        assert transfer(PullRequest("10.0.0.5/a/b", operator=said), caller).operator is operator
        assert transfer(PushRequest("10.0.0.5/a/b", operator=said), caller).operator is operator


def test_a_key_for_some_models_changes_no_others() -> None:
    check_models(NARROW, "mine", "mine:7b", "registry.ollama.ai/library/mine", "hf.co/me/x:Q4_K_M")
    transfer(PullRequest("mine2"), NARROW)
    assert not PullRequest("mine").operator
    assert not PushRequest("mine").operator
    creation(CreateRequest("mine", base="mine:7b"), NARROW)
    for refused in ("other", "library/other", "me/mine", "hf.co/you/mine"):
        with pytest.raises(Forbidden, match=refused.removeprefix("library/")):
            check_models(NARROW, "mine", refused)
        with pytest.raises(Forbidden):
            transfer(PullRequest(refused), NARROW)
        with pytest.raises(Forbidden):
            creation(CreateRequest("mine", base=refused), NARROW)
    with pytest.raises(Forbidden, match="from"):
        creation(CreateRequest("mine", modelfile="FROM other"), NARROW)
    with pytest.raises(Forbidden, match="it makes none of artifacts"):
        creation(CreateRequest("mine", artifact="style"), NARROW)
    with pytest.raises(InvalidValue):
        check_models(NARROW, "http://10.0.0.5/mine")
    check_models(MANAGER, "anything", "http://10.0.0.5/x")
