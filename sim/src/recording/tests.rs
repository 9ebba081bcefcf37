//! Lines that are written are read back; lines that are wrong are named.

use proptest::prelude::*;

use super::*;

fn header() -> Header {
    let instruction = |name: &str, operation: &str, flop| Instruction {
        name: name.to_owned(),
        operation: operation.to_owned(),
        forward_flop: flop,
        backward_flop: flop.map(|flop: u64| 2 * flop),
    };
    Header {
        recording: VERSION,
        foretrain: "0.1.0".to_owned(),
        network: "tiny".to_owned(),
        input: [3, 32, 32],
        ranks: 2,
        rank: 1,
        per_rank_batch: 16,
        precision: NumberFormat::F16,
        wire: NumberFormat::Bf16,
        device: "a processor".to_owned(),
        threads: 2,
        optimizer: "lars".to_owned(),
        fusion: "one bucket".to_owned(),
        algorithm: "ring".to_owned(),
        seed: u64::MAX,
        started: "2026-02-03".to_owned(),
        instructions: vec![
            instruction("conv1", "convolution", Some(1000)),
            instruction("loss", "loss", None),
        ],
        tensors: vec!["conv1.weight".to_owned(), "fc.weight".to_owned(), "fc.bias".to_owned()],
        tensor_elements: vec![6, 4, 1],
        buckets: vec![BucketEntry { tensors: vec![2, 1, 0], bytes: 44 }],
    }
}

fn text(events: &[Event]) -> String {
    let mut text = header().to_line().unwrap() + "\n";
    for event in events {
        text += &(event.to_line().unwrap() + "\n");
    }
    text
}

/// The error of a recording whose second line is `line`.
fn error(line: &str) -> String {
    Recording::read(&(text(&[]) + line)).unwrap_err().to_string()
}

#[test]
fn a_line_looks_as_documented() {
    let span = Span { start_ns: 5, end_ns: 25 };
    let event = |kind| Event { rank: 1, step: 3, kind };
    let line = |kind| event(kind).to_line().unwrap();
    assert_eq!(
        line(EventKind::Forward { instruction: 1, span }),
        r#"{"kind":"forward","rank":1,"step":3,"instruction":1,"start_ns":5,"end_ns":25}"#
    );
    assert_eq!(
        line(EventKind::GradientReady { tensor: 2, at_ns: 9 }),
        r#"{"kind":"gradient_ready","rank":1,"step":3,"tensor":2,"at_ns":9}"#
    );
    assert_eq!(
        line(EventKind::AllReduce { bucket: 0, span }),
        r#"{"kind":"all_reduce","rank":1,"step":3,"bucket":0,"start_ns":5,"end_ns":25}"#
    );
    let norms = Norms {
        local_gradient_norm_sq: Some(0.5),
        averaged_gradient_norm_sq: Some(f64::INFINITY),
        per_rank_batch: 16,
        global_batch: 32,
        loss: Some(2.25),
        loss_scale: 1024.0,
        learning_rate: 0.1,
        skipped: true,
    };
    assert_eq!(
        line(EventKind::Norms(norms)),
        concat!(
            r#"{"kind":"norms","rank":1,"step":3,"local_gradient_norm_sq":0.5,"#,
            r#""per_rank_batch":16,"global_batch":32,"loss":2.25,"loss_scale":1024.0,"#,
            r#""learning_rate":0.1,"skipped":true}"#
        )
    );
    assert_eq!(span.duration_ns(), 20);
}

#[test]
fn errors_name_line_and_key() {
    let good = r#""rank":1,"step":0,"start_ns":1,"end_ns":2"#;
    for (line, expected) in [
        ("{\"kind\":\"forward\",", "line 2: the line is cut short at column 18"),
        ("{]", "line 2: this is not JSON: key must be a string at column 2"),
        (&format!("{{{good}}}"), "line 2: `kind`: the key is missing"),
        (
            &format!("{{\"kind\":\"foward\",{good}}}"),
            "line 2: `kind`: unknown kind `foward`: did you mean `forward`?",
        ),
        (&format!("{{\"kind\":\"forward\",{good}}}"), "line 2: `instruction`: the key is missing"),
        (
            &format!("{{\"kind\":\"forward\",\"instruction\":2,{good}}}"),
            "line 2: `instruction`: 2, but the header lists 2, counted from 0",
        ),
        (
            &format!("{{\"kind\":\"forward\",\"instruction\":-1,{good}}}"),
            "line 2: `instruction`: invalid value: integer `-1`, expected u32",
        ),
        (
            &format!("{{\"kind\":\"pack\",\"bucket\":1,{good}}}"),
            "line 2: `bucket`: 1, but the header lists 1, counted from 0",
        ),
        (
            r#"{"kind":"step","rank":1,"step":0,"start_ns":3,"end_ns":2}"#,
            "line 2: `end_ns`: 2 is before `start_ns`, 3",
        ),
        (
            r#"{"kind":"step","rank":0,"step":0,"start_ns":1,"end_ns":2}"#,
            "line 2: `rank`: 0, but the header is of rank 1",
        ),
    ] {
        let error = error(line);
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn headers_are_checked() {
    let read = |text: &str| Recording::read(text).unwrap_err().to_string();
    assert_eq!(read("\n"), "line 1: the file is empty, expected a recording's header");
    assert!(read("\n{}").starts_with("line 2: this is not the header of a recording"));
    let changed = |change: &dyn Fn(&mut Header)| {
        let mut header = header();
        change(&mut header);
        read(&header.to_line().unwrap())
    };
    assert_eq!(
        changed(&|header| header.recording = 2),
        "line 1: `recording`: format version 2, but this version of foretrain reads 1: read it \
         with the version that wrote it"
    );
    assert_eq!(changed(&|header| header.rank = 2), "line 1: `rank`: rank 2 of 2, counted from 0");
    assert_eq!(
        changed(&|header| header.buckets[0].tensors[1] = 3),
        "line 1: `buckets[0].tensors`: 3, but the header lists 3, counted from 0"
    );
    let wrong = header().to_line().unwrap().replace("\"bytes\":44", "\"bytes\":\"44\"");
    assert!(read(&wrong).starts_with("line 1: `buckets[0].bytes`: invalid type"), "{wrong}");
}

#[test]
fn unknown_keys_are_ignored() {
    let header_line = header().to_line().unwrap().replacen('{', "{\"new\":[1],", 1);
    let line = r#"{"kind":"step","rank":1,"step":0,"start_ns":1,"end_ns":2,"new":{"a":1}}"#;
    let recording = Recording::read(&format!("{header_line}\n\n{line}\n")).unwrap();
    assert_eq!(recording.header, header());
    let span = Span { start_ns: 1, end_ns: 2 };
    assert_eq!(recording.events, [Event { rank: 1, step: 0, kind: EventKind::Step { span } }]);
}

fn any_event() -> impl Strategy<Value = Event> {
    let number = || prop::option::of(-1e300_f64..1e300);
    let norms = (number(), number(), any::<(u64, u64, bool)>(), number(), 0.0..1e9, 0.0..100.0);
    let norms = norms.prop_map(|(local, averaged, (batch, global, skipped), loss, scale, lr)| {
        EventKind::Norms(Norms {
            local_gradient_norm_sq: local,
            averaged_gradient_norm_sq: averaged,
            per_rank_batch: batch,
            global_batch: global,
            loss,
            loss_scale: scale,
            learning_rate: lr,
            skipped,
        })
    });
    let timed = (0..10_u8, any::<u64>(), any::<u64>(), 0..3_u32).prop_map(|(kind, a, b, place)| {
        let span = Span { start_ns: a.min(b), end_ns: a.max(b) };
        match kind {
            0 => EventKind::Forward { instruction: place % 2, span },
            1 => EventKind::Backward { instruction: place % 2, span },
            2 => EventKind::GradientReady { tensor: place, at_ns: a },
            3 => EventKind::Queue { bucket: 0, span },
            4 => EventKind::Pack { bucket: 0, span },
            5 => EventKind::AllReduce { bucket: 0, span },
            6 => EventKind::Unpack { bucket: 0, span },
            7 => EventKind::Optimizer { span },
            8 => EventKind::InputWait { span },
            _ => EventKind::Step { span },
        }
    });
    let kind = prop_oneof![1 => norms, 4 => timed];
    (any::<u64>(), kind).prop_map(|(step, kind)| Event { rank: 1, step, kind })
}

proptest! {
    #[test]
    fn what_is_written_is_read(events in prop::collection::vec(any_event(), 0..40)) {
        let recording = Recording::read(&text(&events)).unwrap();
        prop_assert_eq!(recording, Recording { header: header(), events });
    }
}
