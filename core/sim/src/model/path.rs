//! What a path may be.

/// What the paths of the children of this znode begin with.
#[must_use]
pub fn child_prefix(path: &str) -> String {
    if path.is_empty() || path == "/" {
        "/".to_owned()
    } else {
        format!("{path}/")
    }
}

/// Everything before the last slash, without it: empty for a child of the root.
#[must_use]
pub fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// The same, where the root is named by a slash: as watch events name it.
#[must_use]
pub fn parent_name(path: &str) -> &str {
    match parent(path) {
        "" => "/",
        parent => parent,
    }
}

/// Whether ZooKeeper's `PathUtils.validatePath` takes it.
#[must_use]
pub fn is_valid(path: &str) -> bool {
    if path == "/" {
        return true;
    }
    let Some(rest) = path.strip_prefix('/') else {
        return false;
    };
    rest.split('/')
        .all(|segment| !segment.is_empty() && segment != "." && segment != "..")
        && path.chars().all(is_allowed)
}

const fn is_allowed(character: char) -> bool {
    !matches!(character,
        '\0'..='\u{1f}'
        | '\u{7f}'..='\u{9f}'
        | '\u{e000}'..='\u{f8ff}'
        | '\u{fff0}'..='\u{ffff}'
        | '\u{10000}'..)
}

#[cfg(test)]
mod tests {
    use super::is_valid;

    #[test]
    fn paths_are_judged_as_zookeeper_judges_them() {
        for path in ["/", "/a", "/a/b c", "/...", "/.a", "/ä/\u{4e2d}"] {
            assert!(is_valid(path), "{path:?}");
        }
        for path in [
            "",
            "a",
            "/a/",
            "//",
            "/a//b",
            "/.",
            "/a/..",
            "/a/./b",
            "/\0",
            "/\u{1}",
            "/\u{80}",
            "/\u{e000}",
            "/\u{ffff}",
            "/\u{1f600}",
        ] {
            assert!(!is_valid(path), "{path:?}");
        }
    }
}
