"""A hub of trained networks and catalogs: `publish` to a folder or to Hugging Face, and `pull` from there."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import fdsl
from fdsl.cards import catalog_card, model_card, timm_config
from fdsl.catalogs import Catalog
from fdsl.presets import DIGESTS, PRESETS, cache_folder, is_catalog
from fdsl.whole_files import file_digest

MANIFEST, CATALOG, WEIGHTS = "fdsl.json", "catalog.safetensors", "model.safetensors"
_CARD, _CONFIG, _SHEET = "README.md", "config.json", "contact_sheet.png"
_RUN_WEIGHTS, _RECIPE, _LOG = "weights.safetensors", "recipe.yaml", "log.csv"
_REPORT, _RESULT = "report.json", "result.json"
_VERSION = 1
# What is published and pulled: nothing that can hold a pickle or a script.
_SUFFIXES = (".safetensors", ".json", ".yaml", ".md", ".csv", ".png")
_REPOSITORY = re.compile(r"hf:(?P<name>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")


@dataclass(frozen=True)
class Published:
    """What is where it was published.

    Args:
        kind: "model" or "catalog".
        where: the folder, or "hf:OWNER/NAME".
        digest: sha256 hex of all files, by which `pull` knows them.
        files: their names, `fdsl.json` left out.
        written: False where the same was there already.
    """

    kind: str
    where: str
    digest: str
    files: tuple[str, ...]
    written: bool


def publish(
    source: str | os.PathLike[str] | Catalog,
    dest: str | os.PathLike[str],
    *,
    replace: bool = False,
    private: bool = False,
    license: str = "apache-2.0",
    figures: str | os.PathLike[str] | None = None,
) -> Published:
    """Puts a trained network, or a catalog, where others find all that it takes to use it and to make it again.

    Of a run: the weights as safetensors with timm's `config.json`, so that `timm.create_model("local-dir:FOLDER",
    pretrained=True)` and "hf-hub:OWNER/NAME" load them; recipe; catalog (of a preset the name and digest); report, log,
    its curves, `figures`; a model card. Of a catalog: the file, a contact sheet, a card. `fdsl.json` lists the sha256
    of each. It appears whole or not at all, on Hugging Face in one commit. Nothing is pickled.

    Args:
        source: a run's folder, a catalog, or what `fdsl.catalog` takes.
        dest: a folder, such as HUB/NAME, or "hf:OWNER/NAME": a model there, or for a catalog a dataset. The token is
            that of `hf auth login`.
        replace: where something else was published under that name, or what is there is damaged. On Hugging Face it
            always uploads, as the files there are not read: the same is known by its `fdsl.json`.
        private: of a new repository on Hugging Face.
        license: of what is published, as Hugging Face spells it.
        figures: a folder of PNG files to show with a run, such as that of `fdsl inspect`.

    Raises:
        FileNotFoundError: there is no such source.
        ValueError: the source is neither run nor catalog, or its catalog is not what the run was trained on.
        FileExistsError: the name holds something else.
        OSError: it cannot be written, or Hugging Face does not take it.

    >>> publish("runs/deit", "hub/deit-tiny-fractaldb").where  # doctest: +SKIP
    'hub/deit-tiny-fractaldb'
    """
    where = str(dest)
    repository = _repository(where)
    name = PurePosixPath(repository["name"] if repository else Path(dest).resolve().as_posix()).name
    pictures = sorted(Path(figures).glob("*.png")) if figures else []
    if figures and not pictures:
        raise ValueError(f"figures is {figures}; expected a folder with PNG files")
    write, place = _writer_of(source), _Place(name, where, license, pictures)
    if repository:
        if repository["revision"]:
            raise ValueError(f"{where}; expected no revision to publish to: hf:{repository['name']}")
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / name
            folder.mkdir()
            manifest = write(folder, place)
            written = _upload(folder, repository["name"], manifest, replace, private)
    else:
        target = Path(dest).resolve()
        if target.exists() and not _holds_what_was_published(target):
            raise FileExistsError(f"{target} holds something else; expected a new name, such as {target / 'NAME'}")
        with _beside(target) as folder:
            manifest = write(folder, place)
            written = not _is_whole(target, manifest)
            if written and not replace and (target / MANIFEST).is_file():
                _refuse_other(target, str(target), manifest)
            if written:
                _put(folder, target)
    return Published(manifest["kind"], where, manifest["digest"], tuple(manifest["files"]), written)


def pull(source: str | os.PathLike[str], out: str | os.PathLike[str] | None = None) -> Path:
    """Brings here what was published, checked against its digests, and says where it is.

    `fdsl.catalog` and `fdsl finetune --from` take that folder, and timm takes "local-dir:FOLDER".

    Args:
        source: a folder that `publish` wrote, or "hf:OWNER/NAME", also with a revision: "hf:OWNER/NAME@v1".
        out: a new or empty folder. None is one in the cache (FDSL_CACHE, else as for presets), named by content.

    Returns:
        The folder; what it holds already is not brought again, and of Hugging Face only `fdsl.json` is asked for.

    Raises:
        FileNotFoundError: there is no such folder.
        FileExistsError: `out` holds something else.
        ValueError: it was not published by fdsl, or a file is missing or damaged.
        OSError: Hugging Face cannot be reached, or has no such name; or the folder cannot be written.

    >>> catalog = fdsl.catalog(pull("hf:OWNER/fractals"))  # doctest: +SKIP
    """
    repository = _repository(str(source))
    if not repository:
        folder = Path(source)
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder}: no such folder; expected one that fdsl publish wrote, or hf:OWNER/NAME")
        return _take(folder, str(source), folder.resolve().name, out)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        bring_rest = _download_manifest(repository["name"], repository["revision"], folder)
        return _take(folder, str(source), repository["name"].replace("/", "--"), out, bring_rest)


def catalog_of(folder: Path) -> Catalog:
    """The catalog of a published folder: its own file, or the preset that it names.

    Raises:
        ValueError: it was published without one, or another one is there.

    >>> len(catalog_of(pull("hub/deit-tiny-fractaldb")))  # doctest: +SKIP
    1000
    """
    about = _manifest_of(folder, str(folder)).get("catalog")
    if not isinstance(about, dict):
        raise ValueError(f"{folder}: published without a catalog; expected one that was trained on drawn pictures")
    preset = about.get("preset")
    if preset is not None and preset not in PRESETS:
        raise ValueError(f"{folder / MANIFEST}: its preset is {preset!r}; expected one that this version knows")
    found = fdsl.catalog(preset) if preset else Catalog.load(folder / CATALOG, verify=True)
    if found.digest != about.get("digest"):
        raise ValueError(
            f"{folder}: its catalog has the digest {found.digest[:12]}; expected {about.get('digest')!s:.12}"
        )
    return found


def has_catalog(folder: Path) -> bool:
    """Whether a published folder brings a catalog, or names one: then `catalog_of` gives it.

    Raises:
        ValueError: its `fdsl.json` is damaged.

    >>> has_catalog(pull("hub/deit-tiny-fractaldb"))  # doctest: +SKIP
    True
    """
    return isinstance(_manifest_of(folder, str(folder)).get("catalog"), dict)


def _repository(text: str) -> Mapping[str, str | Any] | None:
    """OWNER/NAME and the revision of `hf:OWNER/NAME@REVISION`; None of a folder."""
    if not text.startswith("hf:"):
        return None
    match = _REPOSITORY.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is no place on Hugging Face; expected hf:OWNER/NAME, or a folder")
    return match.groupdict()


# Writing --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Place:
    """Where something is published, and what is said of it."""

    name: str
    where: str
    license: str
    figures: list[Path]


# Writes what is published to a folder, and its manifest, which is returned.
_Writer = Callable[[Path, _Place], dict[str, Any]]


def _writer_of(source: str | os.PathLike[str] | Catalog) -> _Writer:
    """What is wrong with the source is said before anything is written."""
    if isinstance(source, Catalog):
        return partial(_write_catalog, source)
    path = Path(source)
    if (path / _RUN_WEIGHTS).is_file() and (path / _RECIPE).is_file():
        return _Run.opened(path).write
    if (path / _LOG).is_file() or (path.is_dir() and not is_catalog(path)):
        lacks = [name for name in (_RUN_WEIGHTS, _RECIPE) if not (path / name).is_file()]
        raise ValueError(f"{path}: no {' and no '.join(lacks)} in it; expected a run that has ended, or a catalog")
    return partial(_write_catalog, fdsl.catalog(source))


def _write_catalog(catalog: Catalog, folder: Path, place: _Place) -> dict[str, Any]:
    from fdsl.contact_sheet import contact_sheet

    if place.figures:
        raise ValueError(f"figures is {place.figures[0].parent}; expected none with a catalog, which has its own")
    catalog = _portable(catalog)
    catalog.save(folder / CATALOG)
    (folder / "figures").mkdir()
    contact_sheet(fdsl.Dataset(catalog, spec=fdsl.RenderSpec(size=128))).save(folder / "figures" / _SHEET)
    _write_text(folder / _CARD, catalog_card(catalog, place.name, place.where, place.license, [_SHEET]))
    return _write_manifest(folder, "catalog", {"preset": None, **_about(catalog)})


@dataclass(frozen=True)
class _Run:
    """A run's folder, read and found to be whole."""

    folder: Path
    recipe: Any
    network: Any
    info: Any
    report: dict[str, Any]
    result: dict[str, Any]  # of fine-tuning
    preset: str | None
    catalog: Catalog | None

    @classmethod
    def opened(cls, folder: Path) -> _Run:
        from fdsl.train.recipes import recipe_named
        from fdsl.train.run_folder import read_json
        from fdsl.train.sources import open_source
        from fdsl.train.weights import network_from

        network, info = network_from(folder)
        recipe = recipe_named(folder / _RECIPE)
        report, result = read_json(folder / _REPORT), read_json(folder / _RESULT)
        source = recipe.data.source
        preset = source if source in PRESETS else None
        catalog = None
        if not preset and is_catalog(source):
            catalog = fdsl.catalog(source)
            seen = open_source(recipe.data.model_copy(update={"source": source})).digest
            if seen != report.get("dataset", seen):
                raise ValueError(
                    f"{source}: what it draws has the digest {seen[:12]}, and {folder} was trained on "
                    f"{report['dataset']:.12}; expected the catalog as it was"
                )
        categories = PRESETS[preset][1] if preset else len(catalog) if catalog else len(info.classes)
        if categories != len(info.classes):
            raise ValueError(
                f"{folder}: {len(info.classes):,} classes, and {preset or CATALOG} has {categories:,} categories; "
                "expected what it was trained on"
            )
        return cls(folder, recipe, network, info, report, result, preset, catalog)

    def write(self, folder: Path, place: _Place) -> dict[str, Any]:
        shutil.copyfile(self.folder / _RUN_WEIGHTS, folder / WEIGHTS)
        _write_json(folder / _CONFIG, timm_config(self.network, self.info, place.license))
        source = _portable_source(self.recipe.data.source)
        about: dict[str, Any] | None = None
        if self.preset:
            about = {"preset": self.preset, "digest": DIGESTS[self.preset]}
        elif self.catalog is not None:
            _portable(self.catalog).save(folder / CATALOG)
            about, source = {"preset": None, **_about(self.catalog)}, CATALOG
        recipe = self.recipe.model_copy(update={"data": self.recipe.data.model_copy(update={"source": source})})
        _write_text(folder / _RECIPE, recipe.yaml())
        # Without their recipes, which have the source as it was.
        report, settings = (
            {key: value for key, value in entries.items() if key != "recipe"}
            for entries in (self.report, self.result.get("settings", {}))
        )
        _write_json(folder / _REPORT, report)
        if self.result:
            _write_json(folder / _RESULT, self.result | {"settings": settings})
        (folder / "figures").mkdir()
        if (self.folder / _LOG).is_file():
            from fdsl.train.curves import draw_curves

            shutil.copyfile(self.folder / _LOG, folder / _LOG)
            draw_curves(self.folder / _LOG, folder / "figures" / "curves.png", chance=1 / len(self.info.classes))
        for figure in place.figures:
            shutil.copyfile(figure, folder / "figures" / figure.name)
        card = model_card(
            recipe,
            self.info,
            report,
            settings,
            (self.preset or f"a {about['family']} catalog of {about['categories']:,} categories", about["digest"])
            if about
            else None,
            file_digest(folder / WEIGHTS),
            place.name,
            place.where,
            place.license,
            sorted(figure.name for figure in (folder / "figures").iterdir()),
        )
        _write_text(folder / _CARD, card)
        return _write_manifest(folder, "model", about)


def _portable_source(source: str) -> str:
    """Of a path on this machine the last name alone, behind its prefix."""
    kind = next((prefix for prefix in ("shards:", "imagefolder:", "hf:") if source.startswith(prefix)), "")
    if kind == "hf:" and re.fullmatch(r"hf:\w[\w.-]*(/[\w.-]+)?", source):  # OWNER/NAME
        return source
    return kind + os.path.basename(os.path.abspath(source.removeprefix(kind)))


def _portable(catalog: Catalog) -> Catalog:
    """Without the folder on this machine that it was read from."""
    settings = {key: value for key, value in catalog.settings.items() if key != "folder"}
    return catalog if settings == catalog.settings else replace(catalog, settings=settings, path=None)


def _about(catalog: Catalog) -> dict[str, Any]:
    return {"digest": catalog.digest, "family": catalog.family, "categories": len(catalog)}


def _write_text(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8")


def _write_json(file: Path, content: dict[str, Any]) -> None:
    _write_text(file, json.dumps(content, indent=2) + "\n")


# Digests --------------------------------------------------------------------------------------------------------------


def _digest(files: Mapping[str, str]) -> str:
    return hashlib.sha256("".join(f"{name} {files[name]}\n" for name in sorted(files)).encode()).hexdigest()


def _write_manifest(folder: Path, kind: str, catalog: dict[str, Any] | None) -> dict[str, Any]:
    files = {
        file.relative_to(folder).as_posix(): file_digest(file) for file in sorted(folder.rglob("*")) if file.is_file()
    }
    manifest = {"version": _VERSION, "kind": kind, "digest": _digest(files), "catalog": catalog, "files": files}
    _write_json(folder / MANIFEST, manifest)
    return manifest


def _manifest_of(folder: Path, where: str) -> dict[str, Any]:
    """What `fdsl.json` says, found to be of our kind; it may come from anywhere."""
    try:
        found = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{where}: no {MANIFEST} in it; expected what fdsl publish wrote") from None
    except ValueError:
        raise ValueError(f"{where}: its {MANIFEST} cannot be read; expected what fdsl publish wrote") from None
    if not isinstance(found, dict) or found.get("version") != _VERSION:
        version = found.get("version") if isinstance(found, dict) else None
        raise ValueError(f"{where}: its {MANIFEST} has version {version!r}; expected {_VERSION}")
    files = found.get("files")
    if not isinstance(files, dict) or not files or not all(_is_plain(name) for name in files):
        raise ValueError(f"{where}: its {MANIFEST} lists {files!r:.80}; expected names of {', '.join(_SUFFIXES)} files")
    if found.get("digest") != _digest({name: str(digest) for name, digest in files.items()}):
        raise ValueError(f"{where}: its {MANIFEST} has another digest than its list of files; expected the same")
    return found


def _is_plain(name: str) -> bool:
    """Whether a file of that name stays in its folder, and is of a kind that is published."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\\" not in name and path.suffix in _SUFFIXES


def _check_files(folder: Path, manifest: Mapping[str, Any], where: str) -> None:
    for name, digest in manifest["files"].items():
        if not (folder / name).is_file():
            raise ValueError(f"{where}: no {name} in it, which its {MANIFEST} lists; expected all of them")
        if (found := file_digest(folder / name)) != digest:
            raise ValueError(f"{where}: {name} has the sha256 {found[:12]}; expected {digest:.12}: it is damaged")


# Folders --------------------------------------------------------------------------------------------------------------


def _holds_what_was_published(folder: Path) -> bool:
    return folder.is_dir() and ((folder / MANIFEST).is_file() or not any(folder.iterdir()))


@contextlib.contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """A folder to fill beside `target`; gone at the end, unless `_put` has moved it there."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", suffix=".partial", dir=target.parent) as name:
            folder = Path(name) / "new"
            folder.mkdir()
            yield folder
    except OSError as error:
        if error.errno is None or not str(error.filename).startswith(str(target.parent)):  # it says what it has to
            raise
        raise OSError(error.errno, f"cannot write ({os.strerror(error.errno)})", str(target)) from None


def _put(folder: Path, target: Path) -> None:
    """Gives `folder` the place of `target`, which is gone with the rest of the folder around it."""
    aside = folder.with_name("old")
    try:
        if target.exists():
            os.replace(target, aside)
        os.replace(folder, target)
    except BaseException:  # an interruption between the two as well
        if aside.exists() and not target.exists():
            os.replace(aside, target)
        raise


def _refuse_other(there: Path, where: str, manifest: Mapping[str, Any], files: bool = True) -> None:
    """Raises a FileExistsError where something else was published, or what is damaged; `files`: they are there too."""
    try:
        known = _manifest_of(there, where)
        if files:
            _check_files(there, known, where)
    except ValueError as error:
        raise FileExistsError(f"{error}; expected it whole, or to replace it") from None
    if known["digest"] != manifest["digest"]:
        names = sorted(known["files"].keys() | manifest["files"].keys())
        other = [name for name in names if known["files"].get(name) != manifest["files"].get(name)]
        raise FileExistsError(
            f"{where} holds another {known['kind']}, with other {', '.join(other[:3])}; "
            "expected a new name, or to replace it"
        )


def _is_whole(folder: Path, manifest: Mapping[str, Any]) -> bool:
    """Whether the folder holds all that the manifest lists, and the manifest."""
    with contextlib.suppress(ValueError, OSError):
        _check_files(folder, manifest, str(folder))
        return _manifest_of(folder, str(folder)) == manifest
    return False


def _take(
    folder: Path,
    where: str,
    name: str,
    out: str | os.PathLike[str] | None,
    bring_rest: Callable[[], None] | None = None,
) -> Path:
    """Copies what the folder's manifest lists to its place, unless it is there; `bring_rest` completes the folder."""
    manifest = _manifest_of(folder, where)
    kept = cache_folder() / "hub" / f"{name}-{manifest['digest'][:12]}"
    target = kept if out is None else Path(out).resolve()
    if _is_whole(target, manifest):
        return target
    if out is not None and target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(f"{target} holds something else than {where}; expected a new or an empty folder")
    if bring_rest is not None:
        bring_rest()
    with _beside(target) as temporary:
        for file in (*manifest["files"], MANIFEST):
            if not (folder / file).is_file():
                continue  # it is named below
            (temporary / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / file, temporary / file)
        _check_files(temporary, manifest, where)
        if (temporary / CATALOG).is_file():
            Catalog.load(temporary / CATALOG, verify=True)
        for put in (os.replace, _put):
            try:
                put(temporary, target)
                break
            except OSError:  # something is there: another process has brought the same meanwhile, or it is damaged
                if _is_whole(target, manifest):
                    break
                if out is not None or put is _put:
                    raise
    return target


# Hugging Face ---------------------------------------------------------------------------------------------------------


def _upload(folder: Path, name: str, manifest: Mapping[str, Any], replace: bool, private: bool) -> bool:
    where, kind = f"hf:{name}", "dataset" if manifest["kind"] == "catalog" else "model"
    with _hugging_face(where) as hub:
        api = hub.HfApi(library_name="fdsl", library_version=fdsl.__version__)
        api.create_repo(name, repo_type=kind, private=private, exist_ok=True)
        there = set(api.list_repo_files(name, repo_type=kind)) - {".gitattributes"}
        if MANIFEST in there:
            found = api.hf_hub_download(name, MANIFEST, repo_type=kind)
            if not replace:
                _refuse_other(Path(found).parent, where, manifest, files=False)
                return False
        elif there:
            raise FileExistsError(f"{where} holds something else, such as {min(there)}; expected a new name")
        api.upload_folder(
            repo_id=name,
            repo_type=kind,
            folder_path=folder,
            commit_message=f"{manifest['kind']} {manifest['digest'][:12]}",
            delete_patterns="*",
        )
    return True


def _download_manifest(name: str, revision: str | None, folder: Path) -> Callable[[], None]:
    """Brings `fdsl.json` into the folder; what it returns brings the rest of that commit."""
    where = f"hf:{name}"
    with _hugging_face(where) as hub:
        kind, api = "model", hub.HfApi(library_name="fdsl", library_version=fdsl.__version__)
        try:
            about = api.repo_info(name, repo_type=kind, revision=revision)
        except hub.errors.RepositoryNotFoundError:
            kind = "dataset"
            about = api.repo_info(name, repo_type=kind, revision=revision)
        commit = {"repo_type": kind, "revision": about.sha, "local_dir": folder}
        if MANIFEST in {file.rfilename for file in about.siblings or ()}:  # else who reads it says so
            api.hf_hub_download(name, MANIFEST, **commit)

    def bring_rest() -> None:
        with _hugging_face(where):
            api.snapshot_download(name, allow_patterns=[f"*{suffix}" for suffix in _SUFFIXES], **commit)

    return bring_rest


@contextlib.contextmanager
def _hugging_face(where: str) -> Iterator[Any]:
    """huggingface_hub, whose errors, its HTTP client's among them, become one line."""
    try:
        import huggingface_hub
        import huggingface_hub.errors as errors
    except ImportError:
        raise ImportError(f"{where} needs huggingface_hub, which is not installed; pip install 'fdsl[train]'") from None
    try:
        yield huggingface_hub
    except FileExistsError:
        raise
    except errors.LocalTokenNotFoundError:
        raise OSError(f"{where}: no token of Hugging Face; hf auth login makes one") from None
    except errors.RepositoryNotFoundError:
        raise OSError(f"{where}: no such repository, or it is private and your login may not see it") from None
    except errors.RevisionNotFoundError:
        raise OSError(f"{where}: it has no such revision") from None
    except Exception as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in (401, 403):
            raise OSError(f"{where}: Hugging Face refuses it; expected a login that may write: hf auth login") from None
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise OSError(f"{where}: {reason}") from None
