"""The drawing of the state machine in docs/architecture.md, made from the table that decides."""

from collections import defaultdict

from shared.domain.states import FINAL_STATES, TRANSITIONS, MessageState


def drawing() -> str:
    """Return the Mermaid diagram: one arrow for each pair of states, labelled with its events."""
    arrows: dict[tuple[MessageState, MessageState], list[str]] = defaultdict(list)
    for (before, event), after in TRANSITIONS.items():
        arrows[before, after].append(event.value)
    lines = ["stateDiagram-v2", "    [*] --> SCHEDULED", "    [*] --> QUEUED"]
    order = list(MessageState)
    for before, after in sorted(arrows, key=lambda pair: (order.index(pair[0]), order.index(pair[1]))):
        lines.append(f"    {before.value} --> {after.value}: {', '.join(arrows[before, after])}")
    lines += [f"    {state.value} --> [*]" for state in order if state in FINAL_STATES]
    return "\n".join(lines)
