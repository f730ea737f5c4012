from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

import fdsl

pytest.importorskip("fdsl.hub")
pytest.importorskip("torch")
pytest.importorskip("timm")
pytest.importorskip("huggingface_hub")
import huggingface_hub
import timm
import torch
from test_cli import error_of
from test_cli import run as fdsl_command

from fdsl import hub
from fdsl.train.finetuning import finetune
from fdsl.train.pretraining import pretrain
from fdsl.train.recipes import Data, Model, Recipe, Schedule, Training
from fdsl.train.weights import network_from


def trained(folder: Path, source: str, points: int | None = 1000, **data: Any) -> Path:
    recipe = Recipe(
        title="A test",
        data=Data(source=source, size=32, points=points, mean=(0.2,), **data),
        model=Model(name="test_vit"),
        schedule=Schedule(steps=2),
        training=Training(batch_size=8, evaluations=1, held_out_images=16),
    )
    pretrain(recipe, output=folder, device="cpu", progress=False)
    return folder


@pytest.fixture(scope="module")
def saved(catalog: fdsl.Catalog, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("catalogs") / "mine.safetensors"
    catalog.save(file)
    return file


@pytest.fixture(scope="module")
def run(saved: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("runs") / "run", str(saved), held_out=0.2)


@pytest.fixture(scope="module")
def model(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published run, which tests must not change."""
    folder = tmp_path_factory.mktemp("hub") / "tiny"
    hub.publish(run, folder)
    return folder


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("FDSL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def names(folder: Path) -> set[str]:
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in names(folder)}


def front_matter(folder: Path) -> dict[str, Any]:
    _, text, _ = (folder / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(text)


def test_timm_loads_what_was_published(run: Path, model: Path) -> None:
    ours, info = network_from(run)
    theirs = timm.create_model(f"local-dir:{model}", pretrained=True)
    images = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(theirs.eval()(images), ours.eval()(images))
    config = theirs.pretrained_cfg
    assert (tuple(config["input_size"]), tuple(config["mean"])) == ((3, 32, 32), (0.2, 0.2, 0.2))
    assert list(config["label_names"]) == info.classes
    assert timm.create_model(f"local-dir:{model}", pretrained=True, num_classes=3)(images).shape == (2, 3)


def test_we_load_what_was_published(run: Path, model: Path, catalog: fdsl.Catalog) -> None:
    (ours, info), (theirs, said) = network_from(run), network_from(model)
    assert said == info
    assert all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True))
    assert fdsl.catalog(model) == catalog


def test_all_that_it_takes_is_there_and_nothing_of_this_machine(run: Path, model: Path, catalog: fdsl.Catalog) -> None:
    assert names(model) == {
        "README.md",
        "catalog.safetensors",
        "config.json",
        "fdsl.json",
        "figures/curves.png",
        "log.csv",
        "model.safetensors",
        "recipe.yaml",
        "report.json",
    }
    assert all(str(run.parents[2]).encode() not in content for content in contents(model).values())
    assert yaml.safe_load((model / "recipe.yaml").read_text())["data"]["source"] == "catalog.safetensors"
    card, front = (model / "README.md").read_text(), front_matter(model)
    accuracy = json.loads((run / "report.json").read_text())["held_out_accuracy"]
    assert front["model-index"][0]["results"][0]["metrics"] == [{"type": "accuracy", "value": accuracy}]
    assert (front["license"], front["library_name"]) == ("apache-2.0", "timm")
    for text in (
        "no photograph",
        catalog.digest,
        'timm.create_model("local-dir:FOLDER"',
        torch.__version__,
        "test_vit",
    ):
        assert text in card, text


@pytest.fixture(scope="module")
def tuned(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tuned")
    steps = ["schedule.steps=1", "schedule.warmup_epochs=0", "training.evaluations=1"]
    finetune(run, "digits", output=folder, set=steps, few_shot=1, freeze=2, device="cpu", progress=False)
    return next(folder.glob("*/seed-0"))


def test_the_card_of_a_fine_tuned_network(run: Path, tuned: Path, tmp_path: Path) -> None:
    hub.publish(tuned, tmp_path / "digits")
    card, front = (tmp_path / "digits" / "README.md").read_text(), front_matter(tmp_path / "digits")
    weights = hashlib.sha256((run / "weights.safetensors").read_bytes()).hexdigest()
    for text in (
        "fine-tuned by `fdsl` on `digits`",
        f"| started from | weights with the sha256 `{weights}` |",
        "| stages that kept their weights | the first 2 |",
        "| pictures to train on | 1 of each class |",
        "All settings are in `recipe.yaml` and `result.json`.",
        f"It started from weights with the sha256 `{weights}`, whose licence applies too.",
    ):
        assert text in card, text
    assert front["model-index"][0]["results"][0]["dataset"] == {"name": "digits", "type": "digits"}
    result = json.loads((tmp_path / "digits" / "result.json").read_text())
    assert result["accuracy"] == json.loads((tuned / "result.json").read_text())["accuracy"]
    assert (result["settings"]["few_shot"], result["settings"]["freeze"]) == (1, 2)
    assert "recipe" not in result["settings"]


@pytest.mark.parametrize(
    ("source", "published"),
    [
        ("imagefolder:{here}/photos", "imagefolder:photos"),
        ("imagefolder:{here}/photos/", "imagefolder:photos"),
        ("shards:{here}/part-{{00..09}}.tar", "shards:part-{00..09}.tar"),
        ("hf:{here}/parquet", "hf:parquet"),
        ("hf:ylecun/mnist", "hf:ylecun/mnist"),
        ("digits", "digits"),
    ],
)
def test_paths_of_this_machine_are_not_published(tuned: Path, tmp_path: Path, source: str, published: str) -> None:
    here = tmp_path / "secret"
    shutil.copytree(tuned, here)
    recipe = yaml.safe_load((here / "recipe.yaml").read_text())
    recipe["data"]["source"] = source.format(here=here)
    (here / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    for name in ("report.json", "result.json"):
        written = json.loads((here / name).read_text())
        written.get("settings", written)["recipe"] = recipe
        (here / name).write_text(json.dumps(written))
    hub.publish(here, tmp_path / "hub")
    assert yaml.safe_load((tmp_path / "hub" / "recipe.yaml").read_text())["data"]["source"] == published
    assert f"`{published}`" in (tmp_path / "hub" / "README.md").read_text()
    assert all(b"secret" not in content for content in contents(tmp_path / "hub").values())


def test_a_damaged_report_is_named(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    report = tmp_path / "run" / "report.json"
    report.write_text(report.read_text()[:20])
    expected = f"error: {report} cannot be read; expected the JSON that a run wrote"
    assert error_of("publish", tmp_path / "run", tmp_path / "hub") == expected
    assert error_of("inspect", tmp_path / "run", "--out", tmp_path / "out") == expected


def test_of_a_preset_the_name_and_digest_are_enough(tmp_path: Path) -> None:
    folder = trained(tmp_path / "run", "rcdb-1k", points=None, instances=2)
    hub.publish(folder, tmp_path / "hub" / "contours", license="cc-by-4.0")
    assert "catalog.safetensors" not in names(tmp_path / "hub" / "contours")
    assert fdsl.catalog(tmp_path / "hub" / "contours") == fdsl.catalog("rcdb-1k")
    assert front_matter(tmp_path / "hub" / "contours")["license"] == "cc-by-4.0"


def test_a_published_catalog(saved: Path, catalog: fdsl.Catalog, tmp_path: Path) -> None:
    found = hub.publish(saved, tmp_path / "hub" / "fractals")
    assert found.kind == "catalog"
    assert names(tmp_path / "hub" / "fractals") == {*found.files, "fdsl.json"}
    assert {"catalog.safetensors", "README.md", "figures/contact_sheet.png"} == set(found.files)
    assert catalog.digest in (tmp_path / "hub" / "fractals" / "README.md").read_text()
    assert fdsl.catalog(hub.pull(tmp_path / "hub" / "fractals")) == catalog
    with pytest.raises(ValueError, match=r"its variation is 0\.4; expected 0\.1"):
        fdsl.catalog(tmp_path / "hub" / "fractals", variation=0.1)


def test_a_catalog_of_csv_files_does_not_tell_where_they_were(catalog: fdsl.Catalog, tmp_path: Path) -> None:
    catalog.to_csv(tmp_path / "secret")
    hub.publish(tmp_path / "secret", tmp_path / "hub" / "fractals")
    assert all(b"secret" not in content for content in contents(tmp_path / "hub" / "fractals").values())
    assert fdsl.catalog(tmp_path / "hub" / "fractals") == catalog


def test_a_name_keeps_what_it_holds(run: Path, saved: Path, tmp_path: Path) -> None:
    place = tmp_path / "hub" / "name"
    assert hub.publish(run, place).written
    before = contents(place)
    inode = place.stat().st_ino
    assert not hub.publish(run, place).written
    assert place.stat().st_ino == inode
    with pytest.raises(FileExistsError, match=r"name holds another model, with other README\.md, .*; expected a new"):
        hub.publish(saved, place)
    assert contents(place) == before
    assert hub.publish(saved, place, replace=True).kind == "catalog"
    assert "config.json" not in names(place)
    assert [folder.name for folder in place.parent.iterdir()] == ["name"]


def test_what_was_not_published_is_never_replaced(run: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(FileExistsError, match="holds something else; expected a new name, such as "):
        hub.publish(run, tmp_path, replace=True)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_interruption_leaves_nothing(
    run: Path, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "hub" / "name"
    hub.publish(saved, place)
    before = contents(place)

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(hub, "_write_manifest", interrupted)
    for dest in (place, tmp_path / "hub" / "other"):
        with pytest.raises(KeyboardInterrupt):
            hub.publish(run, dest, replace=True)
    assert contents(place) == before
    assert [folder.name for folder in place.parent.iterdir()] == ["name"]


def test_an_interrupted_replacement_leaves_what_was_there(
    run: Path, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, move = tmp_path / "hub" / "name", hub.os.replace
    hub.publish(saved, place)
    before = contents(place)

    def interrupted(source: Path, target: Path) -> None:
        if Path(source).name == "new":  # what was there is aside
            raise KeyboardInterrupt
        move(source, target)

    monkeypatch.setattr(hub.os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        hub.publish(run, place, replace=True)
    assert contents(place) == before
    assert [folder.name for folder in place.parent.iterdir()] == ["name"]


def test_pull_is_named_by_content(model: Path, cache: Path, tmp_path: Path) -> None:
    folder = hub.pull(model)
    assert folder.parent == cache / "hub"
    assert contents(folder) == contents(model)
    (folder / "README.md").write_text("damaged")
    assert hub.pull(model) == folder
    assert contents(folder) == contents(model)
    assert hub.pull(model, tmp_path / "mine") == tmp_path / "mine"
    assert hub.pull(model, tmp_path / "mine") == tmp_path / "mine"
    assert contents(tmp_path / "mine") == contents(model)
    with pytest.raises(FileExistsError, match="holds something else"):
        hub.pull(model, cache)


@pytest.mark.parametrize("damage", [lambda file: file.unlink(), lambda file: file.write_text("{}")])
def test_a_kept_folder_without_its_manifest_is_brought_again(model: Path, damage: Any) -> None:
    damage(hub.pull(model) / "fdsl.json")
    assert contents(hub.pull(model)) == contents(model)


def test_pull_keeps_what_another_has_brought_meanwhile(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check, first = hub._check_files, []

    def slow(folder: Path, manifest: Any, where: str) -> None:
        check(folder, manifest, where)
        if where == str(model) and not first:  # it is about to be moved to its place
            first.append(None)
            first.append(hub.pull(model).stat().st_ino)

    monkeypatch.setattr(hub, "_check_files", slow)
    assert hub.pull(model).stat().st_ino == first[1]


def test_pull_replaces_nothing(model: Path, tmp_path: Path) -> None:
    hub.pull(model, tmp_path / "mine")
    (tmp_path / "mine" / "README.md").write_text("damaged")
    with pytest.raises(FileExistsError, match=r"mine holds something else than .*; expected a new or an empty folder$"):
        hub.pull(model, tmp_path / "mine")
    assert (tmp_path / "mine" / "README.md").read_text() == "damaged"


def test_only_what_is_listed_is_taken(model: Path, tmp_path: Path) -> None:
    shutil.copytree(model, tmp_path / "theirs")
    (tmp_path / "theirs" / "extra.pkl").write_bytes(b"")
    assert "extra.pkl" not in names(hub.pull(tmp_path / "theirs"))


def edited(folder: Path, **changes: Any) -> None:
    manifest = json.loads((folder / "fdsl.json").read_text()) | changes
    manifest["digest"] = changes.get("digest", hub._digest(manifest["files"]))
    (folder / "fdsl.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda folder: (folder / "model.safetensors").write_bytes(b"x"),
            r"model\.safetensors has the sha256 2d711642",
        ),
        (lambda folder: (folder / "recipe.yaml").unlink(), r"no recipe\.yaml in it, which its fdsl\.json lists"),
        (lambda folder: (folder / "fdsl.json").unlink(), r"no fdsl\.json in it; expected what fdsl publish wrote"),
        (lambda folder: (folder / "fdsl.json").write_text("{"), r"its fdsl\.json cannot be read"),
        (lambda folder: edited(folder, version=2), r"has version 2; expected 1"),
        (lambda folder: edited(folder, files={"../evil.json": "0"}), r"lists .*evil\.json.*; expected names of"),
        (lambda folder: edited(folder, files={"evil.pkl": "0"}), r"lists .*evil\.pkl.*; expected names of"),
        (lambda folder: edited(folder, digest="0"), r"has another digest than its list"),
    ],
)
def test_what_is_damaged_is_refused(model: Path, tmp_path: Path, damage: Any, message: str) -> None:
    shutil.copytree(model, tmp_path / "theirs")
    damage(tmp_path / "theirs")
    with pytest.raises(ValueError, match=message):
        hub.pull(tmp_path / "theirs", tmp_path / "mine")
    assert [file.name for file in tmp_path.iterdir()] == ["theirs"]


def test_what_cannot_be_published(run: Path, saved: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        hub.publish(tmp_path / "nothing", tmp_path / "hub" / "name")
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "weights.safetensors").unlink()
    with pytest.raises(ValueError, match=r"run: no weights\.safetensors in it; expected a run that has ended"):
        hub.publish(tmp_path / "run", tmp_path / "hub" / "name")
    with pytest.raises(ValueError, match=r"'hf:name' is no place on Hugging Face; expected hf:OWNER/NAME"):
        hub.publish(run, "hf:name")
    assert not (tmp_path / "hub").exists()


def test_a_catalog_that_has_changed_is_not_published_as_the_runs(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    fdsl.search("fractaldb", categories=4, seed=9).save(tmp_path / "other.safetensors")
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    recipe["data"]["source"] = str(tmp_path / "other.safetensors")
    (tmp_path / "run" / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    with pytest.raises(ValueError, match=r"other\.safetensors: what it draws has the digest .* was trained on"):
        hub.publish(tmp_path / "run", tmp_path / "hub" / "name")


class FolderHub:
    """Hugging Face's calls, on folders."""

    root: Path

    def __init__(self, **_: Any) -> None:
        pass

    def create_repo(self, name: str, repo_type: str, private: bool, exist_ok: bool) -> None:
        assert exist_ok
        folder = self.root / repo_type / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".gitattributes").write_text("")

    def list_repo_files(self, name: str, repo_type: str) -> list[str]:
        return sorted(names(self.root / repo_type / name))

    def repo_info(self, name: str, repo_type: str, revision: str | None) -> Any:
        if not (self.root / repo_type / name).is_dir():
            raise no_such_repository()
        files = [SimpleNamespace(rfilename=file) for file in self.list_repo_files(name, repo_type)]
        return SimpleNamespace(sha=f"commit of {revision}", siblings=files)

    def hf_hub_download(
        self, name: str, file: str, repo_type: str, revision: str = "", local_dir: Path | None = None
    ) -> str:
        found = self.root / repo_type / name / file
        return str(found if local_dir is None else shutil.copy(found, local_dir))

    def upload_folder(self, repo_id: str, repo_type: str, folder_path: Path, delete_patterns: str, **_: Any) -> None:
        assert delete_patterns == "*"
        shutil.rmtree(self.root / repo_type / repo_id)
        shutil.copytree(folder_path, self.root / repo_type / repo_id)

    def snapshot_download(
        self, name: str, repo_type: str, allow_patterns: list[str], local_dir: Path, revision: str
    ) -> None:
        assert revision.startswith("commit of ")
        assert not any(pattern.endswith((".bin", ".pth", ".pt", ".pkl", ".ckpt", ".py")) for pattern in allow_patterns)
        shutil.copytree(self.root / repo_type / name, local_dir, dirs_exist_ok=True)


def no_such_repository() -> Exception:
    import httpx2

    response = httpx2.Response(404, request=httpx2.Request("GET", "https://huggingface.co/api/models/o/n"))
    return huggingface_hub.errors.RepositoryNotFoundError(
        "404 Client Error.\n\nRepository Not Found", response=response
    )


@pytest.fixture
def hugging_face(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(FolderHub, "root", tmp_path / "huggingface", raising=False)
    monkeypatch.setattr(huggingface_hub, "HfApi", FolderHub)
    return tmp_path / "huggingface"


def test_hugging_face(run: Path, saved: Path, catalog: fdsl.Catalog, hugging_face: Path) -> None:
    assert hub.publish(run, "hf:me/tiny").written
    assert not hub.publish(run, "hf:me/tiny").written
    assert '"hf-hub:me/tiny"' in (hugging_face / "model" / "me" / "tiny" / "README.md").read_text()
    hub.publish(saved, "hf:me/fractals")
    assert front_matter(hugging_face / "dataset" / "me" / "fractals")["viewer"] is False
    assert hub.pull("hf:me/tiny").name.startswith("me--tiny-")
    assert fdsl.catalog(hub.pull("hf:me/fractals@main")) == catalog
    with pytest.raises(FileExistsError, match="hf:me/tiny holds another model"):
        hub.publish(run, "hf:me/tiny", license="mit")
    (hugging_face / "model" / "me" / "theirs").mkdir()
    (hugging_face / "model" / "me" / "theirs" / "pytorch_model.bin").write_text("")
    with pytest.raises(FileExistsError, match=r"hf:me/theirs holds something else, such as pytorch_model\.bin"):
        hub.publish(run, "hf:me/theirs", replace=True)


@pytest.mark.parametrize("text", ["{", None])
def test_replace_repairs_what_hugging_face_has(run: Path, hugging_face: Path, text: str | None) -> None:
    hub.publish(run, "hf:me/tiny")
    there = hugging_face / "model" / "me" / "tiny"
    whole = contents(there)
    if text is None:
        (there / "README.md").write_text("edited on the website")
    else:
        (there / "fdsl.json").write_text(text)
        with pytest.raises(
            FileExistsError, match=r"^hf:me/tiny: its fdsl\.json cannot .*; expected it whole, or to rep"
        ):
            hub.publish(run, "hf:me/tiny")
    assert hub.publish(run, "hf:me/tiny", replace=True).written
    assert contents(there) == whole


def test_what_is_kept_is_not_downloaded_again(
    run: Path, hugging_face: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.publish(run, "hf:me/tiny")
    folder, mine = hub.pull("hf:me/tiny"), hub.pull("hf:me/tiny", tmp_path / "mine")
    monkeypatch.delattr(FolderHub, "snapshot_download")
    assert hub.pull("hf:me/tiny") == folder
    assert hub.pull("hf:me/tiny", tmp_path / "mine") == mine
    (hugging_face / "model" / "me" / "tiny" / "fdsl.json").unlink()
    with pytest.raises(ValueError, match=r"hf:me/tiny: no fdsl\.json in it; expected what fdsl publish wrote"):
        hub.pull("hf:me/tiny")


def test_errors_of_hugging_face_are_one_line(hugging_face: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert error_of("pull", "hf:me/nothing") == (
        "error: hf:me/nothing: no such repository, or it is private and your login may not see it"
    )
    monkeypatch.undo()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert error_of("publish", run, "hf:me/name").startswith("error: hf:me/name: ")
    assert error_of("pull", "hf:me/name").startswith("error: hf:me/name: ")


def test_commands(run: Path, tmp_path: Path) -> None:
    found = json.loads(fdsl_command("publish", run, tmp_path / "hub" / "name", "--json"))
    assert found["digest"] == json.loads((tmp_path / "hub" / "name" / "fdsl.json").read_text())["digest"]
    folder = Path(fdsl_command("pull", tmp_path / "hub" / "name").strip())
    assert contents(folder) == contents(tmp_path / "hub" / "name")
    assert error_of("pull", tmp_path / "nothing").endswith("expected one that fdsl publish wrote, or hf:OWNER/NAME")
