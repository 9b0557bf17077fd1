//! The example in docs/reference/config.md has every key, and each has an explanation.

use crate::links::root;
use strongroom::config::{AgentSettings, Config, ConfiguredDevice, HookSettings, RotationSettings};
use strongroom::prompt;

/// The page, and its example.
fn page() -> (String, String) {
    let page = std::fs::read_to_string(root().join("docs/reference/config.md")).unwrap();
    let example = page.split("```toml\n").nth(1).unwrap().split("```").next().unwrap().to_owned();
    (page, example)
}

/// A key that is added to the structs does not compile here until the example is looked at.
#[test]
fn the_example_has_every_key() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.toml");
    std::fs::write(&file, page().1).unwrap();
    let Config { store, prompt, agent, hooks, hosts, devices } = Config::load(&file).unwrap();
    assert!(store.is_some());
    let prompt::Settings { command, pinentry } = prompt;
    assert!(!command.is_empty() && pinentry.is_some());
    for of_one in [
        |hook: &HookSettings| hook.timeout.is_some() && hook.ca.is_some() && hook.password_token.is_some(),
        |hook: &HookSettings| hook.url.is_some() && !hook.roles.is_empty() && !hook.tokens.is_empty(),
        |hook: &HookSettings| hook.path.is_some() && !hook.command.is_empty(),
        |hook: &HookSettings| hook.user.is_some() && hook.creates && hook.replaces,
    ] {
        assert!(hooks.values().any(of_one));
    }
    assert!(hosts["git"].len() > 1);
    for (name, hook) in &hooks {
        hook.check(name).unwrap();
    }
    let AgentSettings {
        socket,
        credentials,
        cache,
        cache_labels,
        idle,
        confirm,
        prompt,
        checkpoint_every,
        deadline,
        connections,
        access_log_max,
        rotation,
    } = agent;
    let RotationSettings { every, jitter, retry_max, notify } = rotation.unwrap();
    assert!(every.is_some() && jitter.is_some() && retry_max.is_some() && !notify.is_empty());
    assert!(socket.is_some() && credentials.is_some() && !cache.is_empty() && cache_labels.is_some());
    assert!(
        !confirm.is_empty()
            && idle.is_some()
            && prompt.is_some()
            && checkpoint_every.is_some()
            && deadline.is_some()
            && connections.is_some()
            && access_log_max.is_some()
    );
    let ids = devices.iter().map(|ConfiguredDevice { uri: _, id }| id);
    assert!(ids.flatten().count() > 0);
    assert!(devices.iter().all(|device| device.parsed().is_ok()));
}

#[test]
fn every_key_of_the_example_is_explained() {
    let (page, example) = page();
    let keys = example.lines().filter_map(|line| line.split_once(" = ")).map(|(key, _)| key);
    let mut count = 0;
    for key in keys {
        count += 1;
        let told = page.contains(&format!("| `{key}` |")) || page.contains(&format!("### `{key}`"));
        assert!(told, "{key} is not explained");
    }
    assert!(count > 10);
}
