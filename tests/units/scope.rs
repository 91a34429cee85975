use super::*;
use crate::keys::Scope::Nodes;

#[test]
fn routes_of_comfyui() {
    for (method, path, expected) in [
        ("GET", "/prompt", Some(View)),
        ("HEAD", "/prompt", Some(View)),
        ("POST", "/prompt", Some(Run)),
        ("PUT", "/prompt", None),
        ("get", "/prompt", None),
        ("GET", "/", Some(View)),
        ("GET", "/ws", Some(View)),
        ("GET", "/queue", Some(View)),
        ("POST", "/queue", Some(Run)),
        ("GET", "/queue/", None),
        ("GET", "/Queue", None),
        ("GET", "queue", None),
        ("GET", "", None),
        ("GET", "/jobs/{job_id}", Some(View)),
        ("GET", "/jobs/{id}", None),
        ("GET", "/jobs/1", None),
        ("POST", "/jobs/cancel", Some(Run)),
        ("GET", "/experiment/models/preview/{folder}/{path_index}/{filename}", Some(View)),
        ("POST", "/interrupt", Some(Run)),
        ("POST", "/free", Some(All)),
        ("GET", "/free", None),
        ("POST", "/upload/image", Some(Run)),
        ("GET", "/settings/{id}", Some(View)),
        ("POST", "/settings/{id}", Some(Run)),
        ("GET", "/v2/userdata", Some(View)),
        ("DELETE", "/userdata/{file}", Some(Run)),
        ("POST", "/userdata/{file}/move/{dest}", Some(Run)),
        ("GET", "/users", Some(View)),
        ("POST", "/users", Some(All)),
        ("HEAD", "/assets/hash/{hash}", Some(View)),
        ("POST", "/assets", Some(All)),
        ("PUT", "/assets/{id}", Some(Run)),
        ("GET", "/assets/seed/status", Some(All)),
        ("POST", "/assets/prune", Some(All)),
        ("GET", "/internal/files/{directory_type}", Some(View)),
        ("GET", "/internal/logs", Some(All)),
        ("PATCH", "/internal/logs/subscribe", Some(All)),
        ("GET", "/internal/logs/subscribe", None),
        ("GET", "/internal/new", None),
        ("GET", "/manager/queue/status", None),
        ("GET", "/witness/{name}", None),
    ] {
        assert_eq!(of_comfyui(path, method), expected, "{method} {path}");
    }
}

#[test]
fn every_row_counts_once() {
    for (index, (method, path, scope)) in OF_COMFYUI.iter().enumerate() {
        assert!(OF_COMFYUI[..index].iter().all(|row| (row.0, row.1) != (*method, *path)), "twice: {method} {path}");
        assert_eq!(of_comfyui(path, method), Some(*scope));
        assert_eq!(without_api(&format!("/api{path}")), *path);
        assert!(!is_of_the_manager(path), "{path}");
        assert!(matches!(method, &"GET" | &"POST" | &"PUT" | &"PATCH" | &"DELETE"), "{method} {path}");
        assert!(*method == "GET" || *scope != View, "{method} {path} may change something");
        assert!(*scope != Nodes, "{path} is none of a node's");
    }
}

#[test]
fn the_api_is_taken_off_once() {
    for (path, without) in [
        ("/api/queue", "/queue"),
        ("/api/", "/"),
        ("/api/api/jobs", "/api/jobs"),
        ("/queue", "/queue"),
        ("/api", "/api"),
        ("/apiqueue", "/apiqueue"),
        ("/v2/api/queue", "/v2/api/queue"),
        ("", ""),
    ] {
        assert_eq!(without_api(path), without);
    }
    for method in ["GET", "POST"] {
        for twice in ["/api/api/jobs", "/api/api/queue", "/api/api/"] {
            assert_eq!(of_comfyui(without_api(twice), method), Some(All), "{method} {twice}");
        }
    }
}

#[test]
fn files_of_comfyui() {
    for (prefix, method, expected) in [
        ("", "GET", Some(View)),
        ("", "HEAD", Some(View)),
        ("", "POST", None),
        ("/extensions", "GET", Some(View)),
        ("/extensions/node", "GET", Some(View)),
        ("/extensions/a/b", "HEAD", Some(View)),
        ("/templates", "GET", Some(View)),
        ("/docs", "GET", Some(View)),
        ("/docs", "DELETE", None),
        ("/workflow_templates/node", "GET", Some(View)),
        ("/extensionsx", "GET", None),
        ("/my_outputs", "GET", None),
        ("/manager", "GET", None),
    ] {
        assert_eq!(of_comfyuis_files(prefix, method), expected, "{method} {prefix}");
    }
}

#[test]
fn paths_of_the_manager() {
    for path in [
        "/manager/queue/status",
        "/manager",
        "/manager/",
        "/customnode/install/git_url",
        "/snapshot/get_current",
        "/externalmodel/getlist",
        "/comfyui_manager/comfyui_versions",
        "/v2/manager/reboot",
        "/api/v2/manager/reboot",
        "/api/manager/reboot",
        "/v2/api/manager/reboot",
        "/api/api/v2/v2/manager/reboot",
        "//manager/reboot",
        "/v2//customnode/versions/{node_name}",
        "/manager/{tail}",
        "/manager{tail}",
        "/man{tail}",
        "/v2/man{tail}",
        "/{tail}",
        "/{version}/manager/reboot",
        "/{family}/reboot",
        "/v2/{tail}",
        "/v{version}/manager",
        "/a{rest}",
        "manager/reboot",
        "/model/install",
        "/api/alternatives/getlist",
    ] {
        assert!(is_of_the_manager(path), "{path}");
    }
    for path in [
        "/",
        "",
        "/api",
        "/api/v2",
        "/queue",
        "/managers",
        "/manager-x/y",
        "/manager.js",
        "/my/manager/x",
        "/x/{tail}",
        "/x{tail}",
        "/managers{tail}",
        "/v3/manager",
        "/apis/manager",
        "/apis/{tail}",
        "/v2/userdata",
        "/userdata/{file}",
        "/model",
        "/model/getlist",
        "/model/{name}",
        "/extensions/comfyui-manager/{file}",
    ] {
        assert!(!is_of_the_manager(path), "{path}");
    }
}
