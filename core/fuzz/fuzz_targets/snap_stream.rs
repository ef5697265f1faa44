//! Any bytes as a leader's state: nothing panics, the end is found at the same place however the bytes are cut,
//! and a tree that came of it can be sent and read again.
//!
//! ```text
//! input   1 how | 1 chunk length | state
//! how     1: the harness ends the state, and appends "rest"
//! ```
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use zabra_core::ids::Zxid;
use zabra_core::tree::{LoadError, Piece, StreamLoader, Tree};
use zabra_core::wire::snapshot::{END, STREAM_END};
use zabra_fuzz::{SEED, assert_same, assert_sound};

const ZXID: Zxid = Zxid(5);
const BYTES_MAX: usize = 1 << 16;
const REST: &[u8] = b"rest";

fuzz_target!(|data: &[u8]| {
    let Some((&[how, chunk], body)) = data.split_first_chunk() else {
        return;
    };
    let mut stream = body.to_vec();
    if how & 1 != 0 {
        stream.extend_from_slice(&END);
        stream.extend_from_slice(&STREAM_END);
        stream.extend_from_slice(REST);
    }
    let whole = read(&stream, stream.len().max(1));
    let cut = read(&stream, usize::from(chunk) + 1);
    let (tree, at) = match (whole, cut) {
        (Ok(Some((tree, at))), Ok(Some((again, again_at)))) => {
            assert_eq!(at, again_at, "the end is where it is");
            assert_same(&tree, &again);
            (tree, at)
        }
        (Ok(None), Ok(None)) => return,
        // In a piece that is large enough, what is wrong with a later item is found before the end of an
        // earlier one is awaited; the error is that of the first wrong item in any case.
        (Err(one), Err(other)) => return assert_eq!(one, other),
        (one, other) => panic!("{:?} and {:?}", one.map(|_| ()), other.map(|_| ())),
    };
    if how & 1 != 0 && !body.windows(END.len()).any(|part| part == END) {
        assert_eq!(stream.len() - at, REST.len());
    }
    let mut tree = tree;
    assert_sound(&tree);
    let sent = write(&mut tree, usize::from(chunk) * 8 + 16);
    let (again, at) = read(&sent, usize::from(chunk) * 64 + 1)
        .expect("what was written can be read")
        .expect("what was written has an end");
    assert_eq!(at, sent.len());
    assert_same(&tree, &again);
    let unfinished = sent.get(..sent.len() - 1).unwrap_or_default();
    assert!(matches!(read(unfinished, 100), Ok(None)));
});

/// The tree and the offset after it, if the state is complete.
fn read(stream: &[u8], chunk: usize) -> Result<Option<(Tree, usize)>, LoadError> {
    let mut loader = StreamLoader::new(SEED, ZXID, BYTES_MAX);
    let mut fed = 0;
    for bytes in stream.chunks(chunk) {
        fed += bytes.len();
        if let Some(rest) = loader.feed(Bytes::copy_from_slice(bytes))? {
            let tree = loader.finish().expect("it said that it is complete");
            return Ok(Some((tree, fed - rest.len())));
        }
    }
    assert_eq!(loader.finish().err(), Some(LoadError::Short));
    Ok(None)
}

fn write(tree: &mut Tree, slice: usize) -> Vec<u8> {
    assert_eq!(tree.begin_snapshot_stream(), ZXID);
    let mut stream = Vec::new();
    loop {
        match tree.snapshot_piece(slice) {
            Some(Piece::Part(bytes)) => stream.extend(bytes),
            Some(Piece::Last(bytes)) => {
                stream.extend(bytes);
                return stream;
            }
            None => panic!("a snapshot that nobody gave up has an end"),
        }
    }
}
