use super::*;

const COMFYUI: Application = Application::ComfyUi { require_ws: false };

fn of(route: Route<'_>, method: &str) -> Exemption {
    Exemptions::new::<&str>(COMFYUI, &[]).unwrap().of(route, method)
}

#[test]
fn rule_3_paths() {
    use Exemption::{AsksItself, None, Open, Socket, UnlessInvalid};
    for (path, method, expected) in [
        ("/health", "GET", UnlessInvalid),
        ("/api/health", "HEAD", UnlessInvalid),
        ("/health", "POST", None),
        ("/ws", "GET", Socket),
        ("/api/ws", "GET", Socket),
        ("/auth_login.html", "GET", Open),
        ("/api/auth_inject.js", "GET", Open),
        ("/auth_login.html", "POST", None),
        ("/auth_session", "DELETE", AsksItself),
        ("/auth_session", "GET", None),
        ("/auth_verify", "GET", AsksItself),
        ("/auth_verify", "PUT", None),
        ("/api/auth_verify", "GET", None),
        ("/auth_session", "PUT", None),
        ("/api/auth_session", "POST", None),
        ("/", "GET", None),
        ("/api/", "GET", None),
        ("/index.html", "GET", Open),
        ("/templates/{path}", "GET", Open),
        ("/docs/{path}", "HEAD", Open),
        ("/templates/{path}", "POST", None),
        ("/templatesx", "GET", None),
        ("/extensions", "GET", None),
        ("/extensions/node/api", "GET", None),
        ("/prompt", "GET", None),
        ("/userdata/{file}", "GET", None),
        ("/internal/health", "GET", None),
        ("/apihealth", "GET", None),
    ] {
        assert_eq!(of(Route::Path(path), method), expected, "{method} {path}");
    }
    assert_eq!(of(Route::Unmatched, "GET"), None);
}

#[test]
fn rule_3_static_files() {
    for (prefix, file, method, open) in [
        ("", "assets/index.js", "GET", true),
        ("", "assets/index.JS", "HEAD", true),
        ("", "manifest.json", "GET", true),
        ("", "secrets.txt", "GET", false),
        ("", "noext", "GET", false),
        ("", "dir.js/secret", "GET", false),
        ("", "a/../x.js", "GET", false),
        ("", "..\\x.js", "GET", false),
        ("", "x\0.js", "GET", false),
        ("", "x.js", "POST", false),
        ("", "extensions/core/readme.txt", "GET", true),
        ("/extensions/node", "readme.txt", "GET", true),
        ("/extensions/node", "../readme.txt", "GET", false),
        ("/extensions/node", "x.js", "PUT", false),
        ("/templates", "t.bin", "GET", true),
        ("/docs", "d.md", "GET", true),
        ("/my_outputs", "image.png", "GET", false),
        ("/extensionsx", "image.png", "GET", false),
    ] {
        let found = of(Route::Static { prefix, file }, method);
        assert_eq!(found == Exemption::Open, open, "{method} {prefix}/{file}");
    }
    for (prefix, hidden) in [
        ("/extensions/node", ".env"),
        ("/extensions/node", ".git/config"),
        ("/extensions/node", "a/b/.git/config"),
        ("/extensions/node", ".hidden.js"),
        ("/extensions/node", "...js"),
        ("/extensions/node", "a/.well-known/x.json"),
        ("/extensions/node", "\u{200c}.env"),
        ("/extensions/node", "a/\u{feff}\u{200d}.git/config"),
        ("/extensions/node", "GIT~1/config"),
        ("/extensions/node", "a/env~2.js"),
        ("/extensions/node", "C:.env"),
        ("/extensions/node", "x.js::$DATA"),
        ("/extensions/.node", "x.js"),
        ("/extensions", "node/.env"),
        ("/templates", ".env"),
        ("/docs", "a/.git/config"),
        ("", ".env.json"),
        ("", ".git/x.js"),
        ("", "extensions/core/.env"),
    ] {
        assert_eq!(of(Route::Static { prefix, file: hidden }, "GET"), Exemption::None, "{prefix}/{hidden}");
    }
    for plain in ["a.b.js", "x~.js", "~/x.js", "a~b/x.js", "\u{200c}x.js"] {
        assert_eq!(of(Route::Static { prefix: "/extensions/node", file: plain }, "GET"), Exemption::Open, "{plain}");
    }
    for (file, open) in [
        (format!("{}.js", "x".repeat(252)), true),
        (format!("{}.js", "x".repeat(253)), false),
        (format!("{}x.js", "x/".repeat(510)), true),
        (format!("{}x.js", "x/".repeat(511)), false),
    ] {
        let found = of(Route::Static { prefix: "", file: &file }, "GET");
        assert_eq!(found == Exemption::Open, open, "{} bytes", file.len());
    }
}

#[test]
fn rule_3_required_sockets() {
    let exemptions = Exemptions::new::<&str>(Application::ComfyUi { require_ws: true }, &[]).unwrap();
    assert_eq!(exemptions.of(Route::Path("/ws"), "GET"), Exemption::None);
}

#[test]
fn rule_3_applications_of_ones_own() {
    use Exemption::{AsksItself, None, Open, UnlessInvalid};
    let exemptions = Exemptions::new(Application::Own, &["/mine"]).unwrap();
    for (route, method, expected) in [
        (Route::Path("/health"), "GET", UnlessInvalid),
        (Route::Path("/auth_login.html"), "HEAD", Open),
        (Route::Path("/auth_login.js"), "GET", Open),
        (Route::Path("/auth_inject.js"), "GET", Open),
        (Route::Path("/auth_session"), "POST", AsksItself),
        (Route::Path("/auth_verify"), "GET", AsksItself),
        (Route::Path("/mine"), "PUT", Open),
        (Route::Path("/auth_login.html"), "POST", None),
        (Route::Path("/api/health"), "GET", None),
        (Route::Path("/api/auth_login.html"), "GET", None),
        (Route::Path("/"), "GET", None),
        (Route::Path("/index.html"), "GET", None),
        (Route::Path("/ws"), "GET", None),
        (Route::Path("/api/ws"), "GET", None),
        (Route::Path("/docs/{id}"), "GET", None),
        (Route::Path("/templates/{id}"), "HEAD", None),
        (Route::Static { prefix: "", file: "report.json" }, "GET", None),
        (Route::Static { prefix: "", file: "assets/app.js" }, "GET", None),
        (Route::Static { prefix: "/extensions/x", file: "x.js" }, "GET", None),
        (Route::Static { prefix: "/docs", file: "x.html" }, "GET", None),
    ] {
        assert_eq!(exemptions.of(route, method), expected, "{method} {route:?}");
    }
}

#[test]
fn rule_3_the_operators_own() {
    let exemptions = Exemptions::new(Application::Own, &["/view", "/my/*", r"^/a\d+"]).unwrap();
    for (route, open) in [
        (Route::Path("/view"), true),
        (Route::Path("/viewx"), false),
        (Route::Path("/my/{x}"), true),
        (Route::Path("/my"), false),
        (Route::Path("/a12"), true),
        (Route::Path("/a12/b"), false),
        (Route::Path("/b/a12"), false),
        (Route::Static { prefix: "/my", file: "x.png" }, true),
        (Route::Static { prefix: "/my", file: "../x.png" }, false),
        (Route::Static { prefix: "/my", file: ".well-known/x" }, true),
    ] {
        assert_eq!(exemptions.of(route, "POST") == Exemption::Open, open, "{route:?}");
    }
    for secret in ["^(0123456789abcdef0123456789abcdef", "view?token=secret", "a:secret@b"] {
        let faults = Exemptions::new(COMFYUI, &[secret]).unwrap_err();
        assert!(faults[0].to_string().contains("[redacted]"), "{faults:?}");
        assert!(!faults[0].to_string().contains("secret") && !faults[0].to_string().contains("0123"), "{faults:?}");
    }
    for bad in ["view", "", "*", "^(", "^/a)|(/b"] {
        assert_eq!(Exemptions::new(COMFYUI, &[bad]).unwrap_err().len(), 1, "{bad:?}");
    }
}
