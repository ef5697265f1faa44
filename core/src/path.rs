//! Paths of znodes: what is a valid one, and how they divide.

/// Why a path is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathError {
    /// It is empty.
    Empty,
    /// It does not begin with a slash.
    Relative,
    /// It ends with a slash.
    TrailingSlash,
    /// It has an empty segment.
    EmptySegment,
    /// A segment is `.` or `..`.
    DotSegment,
    /// It has a character that paths cannot have.
    Character,
}

/// Checks a path as ZooKeeper does.
///
/// # Errors
/// Names the first rule that it breaks.
///
/// Source: `org.apache.zookeeper.common.PathUtils.validatePath`.
pub fn validate(path: &str) -> Result<(), PathError> {
    if path.is_empty() {
        return Err(PathError::Empty);
    }
    let Some(rest) = path.strip_prefix('/') else {
        return Err(PathError::Relative);
    };
    if rest.is_empty() {
        return Ok(());
    }
    if rest.ends_with('/') {
        return Err(PathError::TrailingSlash);
    }
    for segment in rest.split('/') {
        match segment {
            "" => return Err(PathError::EmptySegment),
            "." | ".." => return Err(PathError::DotSegment),
            _ => {}
        }
    }
    if rest.chars().any(forbidden) {
        Err(PathError::Character)
    } else {
        Ok(())
    }
}

/// Control characters, the private use area, what UTF-16 writes as surrogates, and specials.
const fn forbidden(c: char) -> bool {
    matches!(c,
        '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{e000}'..='\u{f8ff}' | '\u{fff0}'..=char::MAX)
}

/// The parent of a path and its last name; the root's alias `""` is the parent of `/x`.
///
/// `None` if there is no slash.
#[must_use]
pub fn split(path: &str) -> Option<(&str, &str)> {
    path.rsplit_once('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_those_of_zookeeper() {
        for good in [
            "/",
            "/a",
            "/a/b",
            "/...",
            "/.a",
            "/a.",
            "/ü b",
            "/\u{d7ff}",
            "/\u{ffef}",
        ] {
            assert_eq!(validate(good), Ok(()), "{good:?}");
        }
        for (bad, error) in [
            ("", PathError::Empty),
            ("a", PathError::Relative),
            ("/a/", PathError::TrailingSlash),
            ("//", PathError::TrailingSlash),
            ("//a", PathError::EmptySegment),
            ("/a//b", PathError::EmptySegment),
            ("/./a", PathError::DotSegment),
            ("/a/..", PathError::DotSegment),
            ("/a\0", PathError::Character),
            ("/\u{1f}", PathError::Character),
            ("/\u{7f}", PathError::Character),
            ("/\u{9f}", PathError::Character),
            ("/\u{e000}", PathError::Character),
            ("/\u{f8ff}", PathError::Character),
            ("/\u{fffd}", PathError::Character),
            ("/\u{10000}", PathError::Character),
        ] {
            assert_eq!(validate(bad), Err(error), "{bad:?}");
        }
    }

    #[test]
    fn the_root_is_the_parent_of_its_children_by_its_empty_name() {
        assert_eq!(split("/a"), Some(("", "a")));
        assert_eq!(split("/a/b"), Some(("/a", "b")));
        assert_eq!(split("/"), Some(("", "")));
        assert_eq!(split("a"), None);
    }
}
