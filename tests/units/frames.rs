use proptest::prelude::*;

use super::*;

const MASK: [u8; 4] = [1, 2, 3, 4];

/// A frame as clients send it.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        length @ ..126 => frame.push(0x80 | u8::try_from(length).unwrap()),
        length => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ MASK[at % 4]));
    frame
}

fn feed(frames: &[Vec<u8>]) -> Vec<Event> {
    Frames::default().feed(&frames.concat())
}

fn message(text: &str) -> Event {
    Event::Message(text.into())
}

#[test]
fn what_goes_on_and_what_does_not() {
    let (short, long) = (vec![b'a'; MAX_KEPT], vec![b'a'; MAX_KEPT + 1]);
    let longest = vec![b'a'; usize::try_from(MAX_MESSAGE).unwrap()];
    let too_long = [&longest[..], b"a"].concat();
    let control = |bytes: &[u8]| Event::Control(bytes.to_vec());
    for (name, frames, expected) in [
        ("a text", vec![frame(0x81, b"hello")], vec![message("hello")]),
        ("in three frames", vec![frame(1, b"he"), frame(0, b""), frame(0x80, b"llo")], vec![message("hello")]),
        ("two", vec![frame(0x81, b"a"), frame(0x81, b"b")], vec![message("a"), message("b")]),
        ("an empty one", vec![frame(0x81, b"")], vec![message("")]),
        ("the longest that is kept", vec![frame(0x81, &short)], vec![Event::Message(short.clone())]),
        ("one longer", vec![frame(0x81, &long), frame(0x81, b"next")], vec![message("next")]),
        ("the longest", vec![frame(0x81, &longest), frame(0x81, b"next")], vec![message("next")]),
        ("too long", vec![frame(0x81, &too_long), frame(0x81, b"next")], vec![Event::End(TOO_LONG)]),
        ("binary", vec![frame(0x82, b"hello")], vec![]),
        ("binary, too long", vec![frame(0x82, &too_long)], vec![Event::End(TOO_LONG)]),
        ("too long in two frames", vec![frame(1, &longest), frame(0x80, b"a")], vec![Event::End(TOO_LONG)]),
        ("a ping", vec![frame(0x89, b"p")], vec![control(b"\x89\x01p")]),
        ("pings", vec![frame(0x89, b"p"), frame(0x89, b"q")], vec![control(b"\x89\x01q")]),
        ("a pong", vec![frame(0x8a, b"p")], vec![]),
        (
            "a ping in a message",
            vec![frame(1, b"a"), frame(0x89, b"p"), frame(0x80, b"b")],
            vec![message("ab"), control(b"\x89\x01p")],
        ),
        ("a close", vec![frame(0x88, b"\x03\xe8"), frame(0x81, b"a")], vec![control(b"\x88\x02\x03\xe8")]),
        ("compressed", vec![frame(0xc1, b"a")], vec![Event::End(PROTOCOL_ERROR)]),
        ("another reserved bit", vec![frame(0x91, b"a")], vec![Event::End(PROTOCOL_ERROR)]),
        ("without a mask", vec![vec![0x81, 1, b'a']], vec![Event::End(PROTOCOL_ERROR)]),
        ("an unknown kind", vec![frame(0x83, b"a")], vec![Event::End(PROTOCOL_ERROR)]),
        ("a long ping", vec![frame(0x89, &[0; 126])], vec![Event::End(PROTOCOL_ERROR)]),
        ("half a ping", vec![frame(9, b"p")], vec![Event::End(PROTOCOL_ERROR)]),
        ("the rest of nothing", vec![frame(0x80, b"a")], vec![Event::End(PROTOCOL_ERROR)]),
        ("one in another", vec![frame(1, b"a"), frame(0x81, b"b")], vec![Event::End(PROTOCOL_ERROR)]),
        ("a length of 2^64", vec![[&[0x81][..], &[0xff; 13]].concat()], vec![Event::End(TOO_LONG)]),
    ] {
        assert_eq!(feed(&frames), expected, "{name}");
        let mut frames_one_by_one = Frames::default();
        let bytes = frames.concat();
        let mut seen: Vec<_> = bytes.iter().flat_map(|byte| frames_one_by_one.feed(&[*byte])).collect();
        if !name.contains("ping") {
            assert_eq!(seen, expected, "{name}, byte by byte");
        }
        seen.clear();
    }
}

#[test]
fn the_end_comes_once() {
    let mut frames = Frames::default();
    assert_eq!(frames.feed(&frame(0x83, b"a")), [Event::End(PROTOCOL_ERROR)]);
    assert_eq!(frames.feed(&frame(0x81, b"a")), []);
}

#[test]
fn only_the_first_messages_are_looked_at() {
    let mut frames = Frames::default();
    let bytes = frame(0x81, b"a").repeat(MAX_LOOKED_AT + 10);
    assert_eq!(frames.feed(&bytes).len(), MAX_LOOKED_AT);
    assert_eq!(frames.feed(&frame(0x81, b"a")), []);
}

proptest! {
    /// The same is passed on and little is kept, whatever arrives and in whatever pieces.
    #[test]
    fn pieces_make_no_difference(
        kinds in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..300)), 0..20),
        noise in prop::collection::vec(any::<u8>(), 0..40),
        cuts in prop::collection::vec(1usize..400, 1..20),
    ) {
        let mut bytes: Vec<u8> = kinds.iter().flat_map(|(first, payload)| frame(first & 0x8f, payload)).collect();
        bytes.extend(noise);
        let no_ping = |event: &Event| !matches!(event, Event::Control(frame) if frame[0] & 0xf == PING);
        let whole: Vec<_> = Frames::default().feed(&bytes).into_iter().filter(no_ping).collect();
        let (mut frames, mut pieces, mut left) = (Frames::default(), Vec::new(), &bytes[..]);
        for cut in cuts.iter().cycle() {
            let (piece, rest) = left.split_at((*cut).min(left.len()));
            pieces.extend(frames.feed(piece).into_iter().filter(no_ping));
            let kept = frames.message.as_ref().and_then(|message| message.kept.as_ref()).map_or(0, Vec::len);
            prop_assert!(kept <= MAX_KEPT && frames.header.len() < 14);
            left = rest;
            if left.is_empty() { break; }
        }
        prop_assert_eq!(whole, pieces);
    }
}
