"""Places that a setting names: what stands there already must be of the kind that is meant."""

from pathlib import Path


def check_folder(path: str) -> None:
    """Refuse what is there and no folder; what is missing may be made later.

    Raises:
        ValueError: it is a file, stands below one, or may not be looked at.
    """
    try:
        place = Path(path).absolute()
        there = next(folder for folder in (place, *place.parents) if folder.exists())
        is_folder = there.is_dir()
    except OSError as error:
        raise ValueError(f"{path!r}: {error.strerror}") from None
    if not is_folder:
        raise ValueError(f"{there} is no folder")


def check_file(path: str) -> None:
    """Refuse a folder, and a file below what is none.

    Raises:
        ValueError: it can be no file.
    """
    place = Path(path).absolute()
    check_folder(str(place.parent))
    if place.is_dir():
        raise ValueError(f"{place} is a folder")
