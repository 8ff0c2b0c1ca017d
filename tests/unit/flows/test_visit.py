"""What further visits of a request take over."""

from __future__ import annotations

from localmodels.core.access import LOCAL
from localmodels.core.chat import Usage
from localmodels.flows.visit import Visit


def test_another_knows_what_was_asked_and_nothing_of_the_answer() -> None:
    visit = Visit("req", LOCAL)
    visit.operation, visit.dialect, visit.session, visit.once = "chat", "openai", "talk", True
    visit.tried, visit.repeated = (("a", "m:latest"),), True
    visit.model, visit.usage, visit.reserved, visit.admitted, visit.route = "m", Usage(1, 2), 3, 4, "why"
    other = visit.another()
    assert (other.id, other.caller, other.operation, other.dialect) == ("req", LOCAL, "chat", "openai")
    assert (other.session, other.once, other.tried, other.repeated) == ("talk", True, (("a", "m:latest"),), True)
    assert (other.model, other.usage, other.reserved, other.admitted, other.route) == ("", None, 0, 0, "")


def test_an_answer_names_the_model_as_it_was_asked_unless_the_choice_was_ours() -> None:
    visit = Visit()
    visit.model = "m:latest"
    assert (visit.named("m"), visit.named("friend"), visit.named("")) == ("m", "friend", "m:latest")
    visit.chosen = True
    assert visit.named("auto") == visit.named("friend") == "m:latest"
