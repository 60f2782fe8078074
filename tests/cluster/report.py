"""What `make test-cluster` has seen, printed at its end."""

from dataclasses import dataclass, field


@dataclass
class Report:
    """Lines under headings, in the order in which they came."""

    lines: dict[str, list[str]] = field(default_factory=dict[str, "list[str]"])

    def add(self, heading: str, line: str) -> None:
        """Add a line."""
        self.lines.setdefault(heading, []).append(line)


REPORT = Report()
