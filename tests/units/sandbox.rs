use proptest::prelude::*;

use super::*;

#[test]
fn routes() {
    for (path, expected) in [
        ("/view", true),
        ("/api/view", true),
        ("/view_metadata/{folder_name}", true),
        ("/userdata", true),
        ("/userdata/{file}", true),
        ("/api/userdata/{file}", true),
        ("/userdata/{file}/move/{dest}", true),
        ("/v2/userdata", true),
        ("/api/v2/userdata", true),
        ("/api/assets/{id}/content", true),
        ("/api/assets", true),
        ("/experiment/models/preview/{folder}/{path_index}/{filename}", true),
        ("/", false),
        ("/viewer", false),
        ("/users", false),
        ("/prompt", false),
        ("/extensions/node", false),
        ("/witness/view", false),
        ("", false),
    ] {
        assert_eq!(answers_what_clients_write(path), expected, "{path}");
    }
}

#[test]
fn types() {
    use Treatment::{Disarmed, Downloaded, Shown};
    for (expected, types) in [
        (
            Shown,
            &[
                "image/png",
                "IMAGE/JPEG",
                "image/webp; q=1",
                "image/x-exr",
                "audio/flac",
                "audio/mpeg",
                "video/mp4",
                "video/webm;codecs=vp9",
                "text/plain",
                "text/plain; charset=utf-8",
                "application/json",
                "application/octet-stream",
                "model/gltf-binary",
                "model/gltf+json",
            ][..],
        ),
        (
            Downloaded,
            &[
                "text/html",
                "Text/HTML; charset=utf-8",
                "text/html-sandboxed",
                "application/xhtml+xml",
                "application/xml",
                "text/xml",
                "text/xsl",
                "text/css",
                "text/csv",
                "image/svg+xml",
                "image/svg",
                "Image/SVG+XML;x",
                "image/anything+xml",
                "model/x3d+xml",
                "audio/x+xml",
                "application/pdf",
                "application/mathml+xml",
                "application/rss+xml",
                "multipart/x-mixed-replace",
                "multipart/related",
                "message/rfc822",
                "application/wasm",
                "application/x-shockwave-flash",
                "text/cache-manifest",
                "text/x-python",
                "unknown/unknown",
                "",
                ";",
                "/",
                "image",
                "image/",
                "/png",
                "image/png, text/html",
                "image/png text/html",
                "image/png\ttext/html",
                "*/*",
            ][..],
        ),
        (
            Disarmed,
            &[
                "text/javascript",
                "application/javascript; charset=utf-8",
                "application/x-javascript",
                "TEXT/ECMASCRIPT",
                "text/javascript1.5",
                "text/jscript",
                "text/livescript",
                "image/javascript",
            ][..],
        ),
    ] {
        for content_type in types {
            assert_eq!(treatment(content_type), expected, "{content_type:?}");
        }
    }
}

#[test]
fn dispositions() {
    for (said, expected) in [
        ("", "attachment"),
        ("inline", "attachment"),
        ("attachment", "attachment"),
        ("filename=\"x.svg\"", "attachment; filename=\"x.svg\""),
        ("filename=\"a;b.svg\"", "attachment; filename=\"a;b.svg\""),
        ("inline; filename=\"x.svg\"", "attachment; filename=\"x.svg\""),
        ("INLINE ;filename=x", "attachment; filename=x"),
        ("attachment; filename*=UTF-8''x", "attachment; filename*=UTF-8''x"),
        ("form-data; name=\"x\"", "attachment; name=\"x\""),
        (";", "attachment"),
    ] {
        assert_eq!(as_attachment(said), expected, "{said:?}");
    }
}

#[test]
fn policy_of_a_type() {
    for (content_type, expected) in [
        ("video/mp4", PLAYED),
        (" Audio/FLAC; x", PLAYED),
        ("audio/x+xml", POLICY),
        ("video/mp4, text/html", POLICY),
        ("video", POLICY),
        ("image/png", POLICY),
        ("text/html", POLICY),
        ("", POLICY),
        ("é", POLICY),
    ] {
        assert_eq!(policy(content_type), expected, "{content_type:?}");
    }
}

#[test]
fn policies() {
    for (policies, expected) in [
        ("sandbox", true),
        ("default-src 'self'; sandbox", true),
        ("default-src 'self', sandbox", true),
        ("", false),
        ("default-src 'self'", false),
        ("sandbox allow-scripts", false),
        ("sandbox allow-scripts allow-same-origin; x", false),
    ] {
        assert_eq!(is_sandboxed(policies), expected, "{policies:?}");
    }
}

proptest! {
    /// Nothing that a browser reads as XML or HTML or runs as a script is shown, whatever parameters or letters it has.
    #[test]
    fn what_runs_is_never_shown(
        active in "(text/(html|xml|javascript)|application/(xhtml\\+xml|xml|pdf)|image/svg\\+xml|\
            (image|audio|video|model|text|application)/[a-z0-9.-]{0,8}\\+xml)",
        flips in prop::collection::vec(any::<bool>(), 40),
        before in " {0,2}",
        after in "( ?;[ -~]{0,20})?",
    ) {
        let flip = |(at, letter): (usize, char)| if flips[at % 40] { letter.to_ascii_uppercase() } else { letter };
        let spelled: String = active.chars().enumerate().map(flip).collect();
        let content_type = format!("{before}{spelled}{after}");
        prop_assert_ne!(treatment(&content_type), Treatment::Shown);
        prop_assert_eq!(policy(&content_type), POLICY);
    }

    /// A disposition always begins with the word, and loses no parameter.
    #[test]
    fn always_an_attachment(said in "(inline|attachment|[a-z]{0,9})?(; ?)?(filename=\"[^\"\r\n]{0,12}\")?") {
        let made = as_attachment(&said);
        prop_assert!(made == "attachment" || made.starts_with("attachment; "), "{}", made);
        if let Some(at) = said.find("filename=") {
            prop_assert!(made.ends_with(&said[at..]) , "{} of {}", made, said);
        }
    }
}
