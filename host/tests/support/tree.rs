//! A whole tree, as a client sees it.

use std::collections::BTreeMap;

use super::wire::{Acl, Client, Result, Stat};

/// Every znode that a client may see, by its path.
pub(crate) type Tree = BTreeMap<String, Znode>;

/// All that a client can learn of a znode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Znode {
    pub(crate) data: Option<Vec<u8>>,
    pub(crate) stat: Stat,
    pub(crate) acl: Vec<Acl>,
}

/// Reads the tree. Nobody may write meanwhile.
pub(crate) fn dump(client: &mut Client) -> Result<Tree> {
    let mut tree = Tree::new();
    let mut open = vec!["/".to_owned()];
    while let Some(path) = open.pop() {
        let (names, children_stat) = client.children(&path)?;
        let (data, stat) = client.data(&path, false)?;
        let (acl, acl_stat) = client.acl(&path)?;
        assert_eq!(
            (&stat, &stat),
            (&children_stat, &acl_stat),
            "one Stat of {path}"
        );
        let parent = path.trim_end_matches('/');
        open.extend(names.iter().map(|name| format!("{parent}/{name}")));
        tree.insert(path, Znode { data, stat, acl });
    }
    Ok(tree)
}
