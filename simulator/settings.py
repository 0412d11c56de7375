"""What the simulator can be told by its environment."""

from typing import Annotated

from msgspec import Meta

from shared.runtime.settings import File, Host, Port, Process


class Settings(Process, frozen=True, kw_only=True):
    """The simulated carrier's settings; what it does with messages is in its rules."""

    simulator_port: Annotated[Port, Meta(description="Port that the simulated carrier listens on.")] = 8190
    simulator_host: Annotated[
        Host, Meta(description="Address that it listens on. Its doors for tests ask for no password.")
    ] = "127.0.0.1"
    simulator_receipt_url: Annotated[
        str,
        Meta(
            pattern=r"^(https?://.*)?$",
            description="Where its delivery receipts are POSTed. Empty: it sends none.",
            examples=["http://127.0.0.1:8090/receipts/simulator"],
        ),
    ] = ""
    simulator_secret: Annotated[
        str,
        Meta(
            description="What submits must bear, and what receipts are signed with. Empty: neither.",
            extra={"secret": True},
        ),
    ] = ""
    simulator_rules: Annotated[
        str, Meta(description="JSON file of rules to begin with (docs/simulator.md). Empty: all delivered.")
    ] = ""
    simulator_log: Annotated[
        File,
        Meta(description="File of JSON lines: every submit that reached it, and what it owes. Empty: none."),
    ] = ""
