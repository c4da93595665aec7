//! The commit hook and the workflow of `docs/git.md`, in repositories of their own.
#![allow(missing_docs)]
// A test fails by panicking, in its helpers too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use edgesplit_testkit::command::program;
use edgesplit_testkit::envoy::Directory;
use edgesplit_testkit::page::has_curl;
use edgesplit_testkit::root;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// A repository with the files that `edgesplit init` writes, in one commit.
struct Repository(Directory);

impl Repository {
    fn new() -> Repository {
        let repository = Repository(Directory::new().unwrap());
        repository.must("git init --quiet . && edgesplit init --origin http://localhost:3000");
        repository.must("git add . && git commit --quiet --message first");
        repository
    }

    /// A command in the folder, with `edgesplit` on its path.
    fn command(&self, text: &str) -> Command {
        let mut command = Command::new("bash");
        command
            .args(["-e", "-c", text])
            .current_dir(self.0.file(""))
            .env("PATH", path_with(program().parent().unwrap()));
        command.env("HOME", self.0.file("")).env("GIT_CONFIG_NOSYSTEM", "1");
        for role in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{role}_NAME"), "A").env(format!("GIT_{role}_EMAIL"), "a@shop.example");
        }
        command
    }

    fn run(&self, text: &str) -> Output {
        self.command(text).output().unwrap()
    }

    /// Runs a command that must succeed, and gives what it printed.
    #[track_caller]
    fn must(&self, text: &str) -> String {
        let output = self.run(text);
        assert!(output.status.success(), "{text}: {}", printed(&output));
        printed(&output)
    }

    fn replace(&self, from: &str, to: &str) {
        let file = self.0.file("experiments.json");
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains(from), "{from}");
        fs::write(&file, text.replace(from, to)).unwrap();
    }
}

fn printed(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn path_with(folder: &Path) -> OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::join_paths([folder.to_owned()].into_iter().chain(std::env::split_paths(&path))).unwrap()
}

#[test]
fn hook_refuses_mistakes_that_are_about_to_be_committed() {
    let repository = Repository::new();
    let hook = root().join("examples/git/pre-commit");
    repository.must(&format!("cp {} .git/hooks/", hook.display()));

    repository.replace("\"paths\"", "\"path\"");
    let refused = repository.run("git commit --quiet --all --message broken");
    assert!(!refused.status.success() && printed(&refused).contains("did you mean `paths`"), "{}", printed(&refused));
    // A warning counts as well.
    repository.replace("\"path\"", "\"paths\"");
    repository.replace("\"traffic\": 5000", "\"traffic\": 50");
    let refused = repository.run("git commit --quiet --all --message small");
    assert!(!refused.status.success() && printed(&refused).contains("warning"), "{}", printed(&refused));

    // The staged file is checked, not the one in the working tree.
    repository.replace("\"traffic\": 50", "\"traffic\": 10000");
    repository.must("git add experiments.json");
    repository.replace("\"paths\"", "\"path\"");
    repository.must("git commit --quiet --message good");
    // Other files are not its concern.
    repository.must("echo notes > notes.txt && git add notes.txt && git commit --quiet --message notes");
    assert_eq!(repository.must("git rev-list --count HEAD").trim(), "3");
}

/// The workflow, with the files that GitHub gives its steps.
struct Workflow<'a> {
    repository: &'a Repository,
    runner: Directory,
    document: Value,
}

impl Workflow<'_> {
    fn new(repository: &Repository) -> Workflow<'_> {
        let text = fs::read_to_string(root().join("examples/git/experiments.yml")).unwrap();
        let document = serde_saphyr::from_str(&text).unwrap();
        let runner = Directory::new().unwrap();
        fs::create_dir(runner.file("stub")).unwrap();
        fs::write(runner.file("stub/gh"), "#!/bin/sh\nprintf '%s\\n' \"$@\" > \"$RUNNER_TEMP/gh\"\n").unwrap();
        let made = Command::new("chmod").arg("+x").arg(runner.file("stub/gh")).status();
        assert!(made.is_ok_and(|status| status.success()));
        Workflow { repository, runner, document }
    }

    fn steps(&self) -> &[Value] {
        self.document["jobs"]["experiments"]["steps"].as_array().unwrap()
    }

    /// Runs the steps up to the first that fails, and gives its name and output.
    fn run(&self, sha256: &str) -> Result<(), (String, String)> {
        let file = |name: &str| self.runner.file(name);
        let base = self.repository.must("git rev-parse HEAD~1");
        let values = [("BASE", base.trim()), ("NUMBER", "7"), ("GH_TOKEN", "secret")];
        for step in self.steps() {
            let (Some(script), name) = (step["run"].as_str(), step["name"].as_str().unwrap_or_default()) else {
                continue;
            };
            let mut command = self.repository.command(script);
            // The command comes from the workflow's own step.
            let installed = fs::read_to_string(file("path")).unwrap_or_default();
            let own = std::env::join_paths(installed.lines().map(Into::into).chain([file("stub")])).unwrap();
            let path = std::env::var_os("PATH").unwrap();
            let path: Vec<_> = std::env::split_paths(&own).chain(std::env::split_paths(&path)).collect();
            command.env("PATH", std::env::join_paths(path).unwrap()).env("RUNNER_TEMP", file(""));
            command.env("GITHUB_PATH", file("path")).env("GITHUB_STEP_SUMMARY", file("summary"));
            command.env("EDGESPLIT_URL", format!("file://{}", program().display())).env("EDGESPLIT_SHA256", sha256);
            for name in step["env"].as_object().into_iter().flat_map(|env| env.keys()) {
                let value = values.iter().find(|(known, _)| known == name).unwrap_or_else(|| panic!("{name}"));
                command.env(name, value.1);
            }
            let output = command.output().unwrap();
            if !output.status.success() {
                return Err((name.to_owned(), printed(&output)));
            }
        }
        Ok(())
    }
}

#[test]
fn workflow_posts_who_would_move() {
    if !has_curl() {
        return;
    }
    let sha256: String =
        Sha256::digest(fs::read(program()).unwrap()).iter().map(|byte| format!("{byte:02x}")).collect();
    let repository = Repository::new();
    repository.replace("\"traffic\": 5000", "\"traffic\": 10000");
    repository.must("git commit --quiet --all --message more");
    let workflow = Workflow::new(&repository);
    workflow.run(&sha256).unwrap();
    let comment = fs::read_to_string(workflow.runner.file("comment.md")).unwrap();
    assert!(comment.contains("25,030   25.03 %  joins   (not in it) -> bold"), "{comment}");
    assert_eq!(fs::read_to_string(workflow.runner.file("summary")).unwrap(), comment);
    let arguments = fs::read_to_string(workflow.runner.file("gh")).unwrap();
    let file = workflow.runner.file("comment.md");
    let expected = ["pr", "comment", "7", "--edit-last", "--create-if-none", "--body-file", &file.to_string_lossy()];
    assert_eq!(arguments.lines().map(|line| line.replace("//", "/")).collect::<Vec<_>>(), expected);

    let (step, _) = Workflow::new(&repository).run(&"0".repeat(64)).unwrap_err();
    assert_eq!(step, "Install edgesplit");
    repository.replace("\"paths\"", "\"path\"");
    repository.must("git commit --quiet --all --message broken");
    let (step, message) = Workflow::new(&repository).run(&sha256).unwrap_err();
    assert!(step == "Validate" && message.contains("did you mean `paths`"), "{step}: {message}");
}

/// The base of a pull request that adds the experiments has none.
#[test]
fn workflow_compares_first_experiments_with_none() {
    if !has_curl() {
        return;
    }
    let repository = Repository::new();
    repository.must("git mv experiments.json later.json && git commit --quiet --all --message without");
    repository.must("git mv later.json experiments.json && git commit --quiet --all --message with");
    let workflow = Workflow::new(&repository);
    let compare = workflow.steps().iter().find(|step| step["name"] == "Compare with the base").unwrap();
    let mut command = repository.command(compare["run"].as_str().unwrap());
    command.env("BASE", "HEAD~1").env("RUNNER_TEMP", workflow.runner.file(""));
    let output = command.env("GITHUB_STEP_SUMMARY", workflow.runner.file("summary")).output().unwrap();
    assert!(output.status.success(), "{}", printed(&output));
    let summary = fs::read_to_string(workflow.runner.file("summary")).unwrap();
    assert!(summary.contains("joins   (not in it) -> bold"), "{summary}");
}

/// A tag can be moved to other code; a commit cannot.
#[test]
fn workflows_pin_actions_by_commit() {
    let mut pinned = 0;
    for file in ["examples/git/experiments.yml", ".github/workflows/ci.yml"] {
        let text = fs::read_to_string(root().join(file)).unwrap();
        for uses in text.lines().filter_map(|line| line.split_once("uses: ")).map(|(_, uses)| uses) {
            let commit = uses.split_once('@').map_or("", |(_, commit)| commit.split(' ').next().unwrap_or_default());
            assert!(commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit()), "{file}: {uses}");
            pinned += 1;
        }
    }
    assert!(pinned >= 4, "{pinned}");
}
