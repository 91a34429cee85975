use proptest::prelude::*;

use super::*;

fn word(path: &str, writes: bool) -> String {
    needed(path, writes).to_string()
}

#[test]
fn rules_1_and_2_what_is_written_below_all() {
    for path in [
        "workflows/a.json",
        "workflows/.index.json",
        "workflows/deep/er/a b.json",
        "workflows/a.html",
        "workflows/Größe.json",
        "workflows/a~1.json",
        "workflows/console.json",
        "workflows/com10.json",
        "workflows/folder",
        "subgraphs/a.json",
        "keybindings/mine.json",
        "comfy.settings.json",
        "comfy.templates.json",
    ] {
        assert_eq!(word(path, true), "run", "{path}");
        assert_eq!(word(path, false), "view", "{path}");
    }
}

#[test]
fn everything_else_is_written_with_all() {
    for path in [
        "",
        "user.css",
        "USER.CSS",
        "user.css.gz",
        "user.css.br",
        "workflows",
        "Workflows/a.json",
        "WORKFLOWS/a.json",
        "workflows./a.json",
        "workflows /a.json",
        "workflows:x/a.json",
        "workflows\\a.json",
        "WORKFL~1/a.json",
        "workflowsx/a.json",
        "subgraphs",
        "comfy.settings.json/x",
        "Comfy.Settings.json",
        "comfy.settings.json.",
        "comfy.settings.json:x",
        "comfy.settings.json::$DATA",
        "ComfyUI-Manager/config.ini",
        "ComfyUI-Manager/startup-scripts/install-scripts.txt",
        "__manager/config.ini",
        "other/workflows/a.json",
        "a.json",
        "/workflows/a.json",
        "workflows//a.json",
        "workflows/",
        "workflows/../user.css",
        "workflows/./a.json",
        "workflows/..",
        "workflows/.. /user.css",
        "workflows/a.json ",
        "workflows/a.json.",
        "workflows/a./b.json",
        "workflows/..\\user.css",
        "workflows/a.json:stream",
        "workflows/C:x",
        "workflows/a\nb.json",
        "workflows/a\0.json",
        "workflows/con",
        "workflows/NUL.json",
        "workflows/com1.json",
        "workflows/Com¹",
        "workflows/lpt9 .json",
        "workflows/aux/a.json",
    ] {
        assert_eq!(word(path, true), "all", "{path:?}");
    }
}

#[test]
fn rule_3_the_managers_folder_is_read_with_all() {
    for path in [
        "ComfyUI-Manager",
        "ComfyUI-Manager/config.ini",
        "comfyui-manager/config.ini",
        "COMFYUI-MANAGER/snapshots/a.json",
        "ComfyUI-Manager./config.ini",
        "ComfyUI-Manager /config.ini",
        "ComfyUI-Manager::$INDEX_ALLOCATION/config.ini",
        "ComfyUI\u{200d}-Manager/config.ini",
        "ComfyUI_Manager/config.ini",
        "COMFYU~1/config.ini",
        "comfyu~2",
        "COMFYU~10/x",
        "CO1234~1/x",
        "__manager/config.ini",
        "__Manager",
        "__MANAG~1/config.ini",
    ] {
        for writes in [false, true] {
            assert_eq!(word(path, writes), "all", "{path:?}");
        }
    }
}

#[test]
fn rule_4_nothing_is_read_below_a_file() {
    for path in ["user.css/x", "USER.css/x", "comfy.settings.json/x/y", "comfy.templates.json./x"] {
        assert_eq!(word(path, false), "all", "{path}");
    }
}

#[test]
fn all_else_is_read_with_view() {
    for path in [
        "",
        "user.css",
        "a.json",
        "modèles/a.json",
        "CustomScripts/a.txt",
        "comfy.settings.json",
        "backup~1/a",
        "Managers",
    ] {
        assert_eq!(word(path, false), "view", "{path}");
    }
}

/// Characters put between, before or after the letters of a name, to spell the same folder differently.
fn spelling(name: &'static str) -> impl Strategy<Value = String> {
    let noise = prop::sample::select(vec!["", "", "", ".", " ", "-", "_", "\u{200c}", "\u{feff}"]);
    let letters = prop::collection::vec((any::<bool>(), noise), name.len());
    let end = prop::sample::select(vec!["", ".", " ", "::$INDEX_ALLOCATION", ":x"]);
    (letters, end).prop_map(move |(letters, end)| {
        let spelled = |(letter, (upper, noise)): (char, (bool, &str))| {
            format!("{noise}{}", if upper { letter.to_ascii_uppercase() } else { letter })
        };
        name.chars().zip(letters).map(spelled).collect::<String>() + end
    })
}

proptest! {
    /// Another spelling of a name never needs less.
    #[test]
    fn no_spelling_is_laxer(
        name in prop_oneof![
            spelling("ComfyUI-Manager"), spelling("__manager"), spelling("user.css"), spelling("ComfyUI-Manager"),
        ],
        rest in "(/[a-z./]{1,12})?",
    ) {
        let path = format!("{name}{rest}");
        prop_assert_eq!(word(&path, true), "all");
        if letters(&name).contains("manager") {
            prop_assert_eq!(word(&path, false), "all");
        }
    }

    /// Below `all`, what is written is in one of three folders or one of two files, spelled as they are.
    #[test]
    fn what_is_written(path in "(workflows|subgraphs|Workflows|user\\.css|comfy\\.settings\\.json|\\PC{0,9})?/?\\PC{0,20}") {
        if word(&path, true) == "run" {
            let inside = |folder: &&str| path.strip_prefix(*folder).is_some_and(|rest| rest.len() > 1 && rest.starts_with('/'));
            prop_assert!(FOLDERS.iter().any(inside) || FILES.contains(&path.as_str()));
            prop_assert!(path.split('/').all(|name| !["", ".", ".."].contains(&name)));
        }
    }

    /// If you may write it, you may read it, and nothing needs less than `view`.
    #[test]
    fn writing_needs_more(path in "\\PC{0,30}") {
        let [reading, writing] = [false, true].map(|writes| needed(&path, writes));
        prop_assert!(Scopes::ALL.cover(writing));
        prop_assert!(!Scopes::granted([Scope::View]).cover(writing));
        if Scopes::granted([Scope::Run]).cover(writing) {
            prop_assert!(Scopes::granted([Scope::Run]).cover(reading));
        }
    }
}
