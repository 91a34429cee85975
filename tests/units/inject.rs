use super::*;

#[test]
fn goes_first_into_the_head() {
    // `^` marks where the tag belongs.
    for page in [
        "<!DOCTYPE html><html lang=en><head>^<title>x</title></head>",
        "<HTML><HEAD>^<TITLE>",
        "<head data-x=\"a>b\" data-y='>'>^<script>1</script>",
        "<!-- <head> --><html><head>^",
        "<!--><head>^",
        "<!---><head>^",
        "<!-- a --!><head>^",
        "<!-- x > y -- z --><head>^",
        "^<script>'<head>'</script><head>",
        "<html>^<script>\"<head>\"</script>",
        "<html>\n  ^<body><p>no head",
        "^just text <head>",
        "<html>^<header>x</header>",
        "<head/>^x",
        "<head\n>^x",
        "<?xml version='1.0'?><!doctype html>\r\n<head>^",
        "\u{feff}<head>^",
        "^<!-- never closed <head>",
        "^<html never closed",
        "^",
    ] {
        let expected = page.replace('^', "<script src=\"a.js\"></script>");
        let found = inject_script(page.replace('^', "").as_bytes(), "a.js");
        assert_eq!(String::from_utf8(found).unwrap(), expected);
    }
}

#[test]
fn leaves_bytes_that_are_not_utf_8_alone() {
    let page = b"<head>\xff\xfe\x00";
    assert_eq!(inject_script(page, "a"), b"<head><script src=\"a\"></script>\xff\xfe\x00");
}

#[test]
fn takes_20_mb_of_hostile_page() {
    for unit in ["<!-- ", "<html ", "<head \"", "'\"", "<!doctype ", " "] {
        let page = unit.repeat(20 * 1024 * 1024 / unit.len());
        assert!(inject_script(page.as_bytes(), "a").len() > page.len());
    }
}
