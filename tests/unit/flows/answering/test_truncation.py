"""What is left out of a conversation that does not fit: always the oldest whole turns, never a system message."""

from hypothesis import given
from hypothesis import strategies as st

from localmodels.core.chat import ChatRequest, Message, Role, Text
from localmodels.core.options import Options
from localmodels.flows.answering.truncation import prompt_room, turns, without_oldest

ROLES: tuple[Role, ...] = ("system", "user", "assistant", "tool")


def conversation(*roles: Role) -> ChatRequest:
    return ChatRequest("m", tuple(Message(role, (Text(f"{place}"),)) for place, role in enumerate(roles)))


def test_a_turn_is_a_user_message_and_all_that_answers_it() -> None:
    request = conversation("system", "user", "assistant", "tool", "assistant", "user", "system", "assistant", "user")
    assert turns(request.messages) == ((1, 2, 3, 4), (5, 7), (8,))


def test_a_conversation_may_begin_with_the_assistant() -> None:
    assert turns(conversation("assistant", "user").messages) == ((0,), (1,))


def test_the_oldest_turns_go_and_system_messages_stay() -> None:
    shorter, dropped = without_oldest(conversation("system", "user", "assistant", "user", "system", "assistant"), 1)
    assert [message.text for message in shorter.messages] == ["0", "3", "4", "5"]
    assert dropped == 2


@given(st.lists(st.sampled_from(ROLES), max_size=30), st.integers(0, 30))
def test_no_message_is_lost_or_moved(roles: list[Role], count: int) -> None:
    request = conversation(*roles)
    shorter, dropped = without_oldest(request, count)
    places = [int(message.text) for message in shorter.messages]
    assert places == sorted(places)
    assert len(places) + dropped == len(roles)
    assert {place for place, role in enumerate(roles) if role == "system"} <= set(places)
    kept = [place for place in places if roles[place] != "system"]
    assert kept == [place for turn in turns(request.messages)[count:] for place in turn]


def test_room_is_kept_for_an_answer() -> None:
    assert prompt_room(conversation("user"), 1000) == 750
    asked = ChatRequest("m", (), options=Options(num_predict=10))
    assert prompt_room(asked, 1000) == 990
    assert prompt_room(ChatRequest("m", (), options=Options(num_predict=-1)), 1000) == 750
    assert prompt_room(ChatRequest("m", (), options=Options(num_predict=0)), 1000) == 999
