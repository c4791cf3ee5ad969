//! `multiproc inspect`: what is in a segment, read from outside.

use std::io::Write;
use std::process::ExitCode;

use multiproc::view::{Content, Datum, Object, Participant, View};
use serde_json::{Value, json};

use crate::arguments::{self, Look};
use crate::census::text::printable;
use crate::failure::Failure;
use crate::instance;
use crate::table::Table;

pub(crate) fn inspect(arguments: &arguments::Inspect) -> Result<ExitCode, Failure> {
    let view = match arguments.pid {
        Some(pid) => View::of_process(pid)?,
        None => instance::select(arguments.name.as_deref())?.view()?,
    };
    let text = match &arguments.what {
        Look::Ls => list(&view, arguments.json),
        Look::Show { object, most } => show(&view, object, *most, arguments.json)?,
    };
    std::io::stdout().write_all(text.as_bytes()).map_err(Failure::Output)?;
    Ok(ExitCode::SUCCESS)
}

fn list(view: &View, json: bool) -> String {
    let (participants, objects) = (view.participants(), view.objects());
    if json {
        let value = json!({
            "version": 1,
            "bytes": view.bytes(),
            "departed": view.departed(),
            "participants": participants.iter().map(participant_json).collect::<Vec<_>>(),
            "objects": objects.iter().map(object_json).collect::<Vec<_>>(),
        });
        return format!("{value}\n");
    }
    let mut people = Table::new(&["SLOT", "PID", "STATE", "PROGRESS", "NAME"]);
    for one in &participants {
        people.row(vec![
            one.slot.to_string(),
            one.pid.to_string(),
            one.alive.map_or("?", |alive| if alive { "alive" } else { "dead" }).into(),
            one.progress.to_string(),
            printable(&one.name),
        ]);
    }
    let mut things = Table::new(&["OBJECT", "NAME", "KIND", "ELEMENT", "COUNT", "BYTES", "USERS"]);
    for one in &objects {
        things.row(vec![
            number(one),
            if one.name.is_empty() { "-".into() } else { printable(&one.name) },
            one.kind.name().into(),
            one.element.name().into(),
            one.count.to_string(),
            one.bytes.to_string(),
            one.attached.len().to_string(),
        ]);
    }
    format!("{}\n{}", people.text(), things.text())
}

fn participant_json(one: &Participant) -> Value {
    json!({
        "slot": one.slot, "pid": one.pid, "alive": one.alive,
        "progress": one.progress, "name": one.name,
    })
}

fn object_json(one: &Object) -> Value {
    json!({
        "object": number(one), "name": one.name, "kind": one.kind.name(),
        "element": one.element.name(), "element_bytes": one.element_bytes,
        "count": one.count, "bytes": one.bytes, "attached": one.attached,
    })
}

/// How an object is called if it has no name.
fn number(object: &Object) -> String {
    format!("{}.{}", object.index, object.generation)
}

fn show(view: &View, wanted: &str, most: usize, json: bool) -> Result<String, Failure> {
    let objects = view.objects();
    let is_wanted = |one: &&Object| !one.name.is_empty() && one.name == wanted;
    let found = objects.iter().find(|one| is_wanted(one) || number(one) == wanted);
    let Some((object, content)) = found.and_then(|one| Some((one, view.content(one, most)?)))
    else {
        let name = |one: &Object| if one.name.is_empty() { number(one) } else { one.name.clone() };
        let others = objects.iter().map(|one| printable(&name(one))).collect::<Vec<_>>().join(", ");
        return Err(Failure::NoObject { name: wanted.into(), others });
    };
    if json {
        let mut value = object_json(object);
        value["content"] = content_json(&content);
        return Ok(format!("{value}\n"));
    }
    let title = format!("{} {} {}", object.kind.name(), number(object), printable(&object.name));
    Ok(format!("{}\n{}", title.trim_end(), content_text(&content, object, most)))
}

fn content_json(content: &Content) -> Value {
    let data = |data: &[Datum]| data.iter().map(datum_json).collect::<Vec<_>>();
    match content {
        Content::Number(number) => json!({ "value": number }),
        Content::Elements(elements) => json!({ "elements": data(elements) }),
        Content::Locked { owner, poisoned, data: held } => {
            json!({ "owner": owner, "poisoned": poisoned, "elements": data(held) })
        }
        Content::Sums(sums) => json!({ "sums": sums }),
        Content::Queue { waiting, capacity, closed, leases } => json!({
            "waiting": waiting, "capacity": capacity, "closed": closed, "leases": leases,
        }),
        Content::Facts(facts) => facts.iter().map(|(what, number)| (*what, *number)).collect(),
        Content::Handles(handles) => {
            json!({ "handles": handles.iter().map(handle_text).collect::<Vec<_>>() })
        }
        _ => json!({}),
    }
}

/// A handle as the object's number in listings.
fn handle_text((index, generation): &(u32, u32)) -> String {
    format!("{index}.{generation}")
}

fn datum_json(datum: &Datum) -> Value {
    match datum {
        Datum::Unsigned(number) | Datum::Word(number) => json!(number),
        Datum::Signed(number) => json!(number),
        Datum::Float(number) => json!(number),
        _ => Value::Null,
    }
}

fn content_text(content: &Content, object: &Object, most: usize) -> String {
    match content {
        Content::Number(number) => format!("{number}\n"),
        Content::Elements(elements) => {
            elements_text(elements.iter().map(|datum| datum_json(datum).to_string()), object, most)
        }
        Content::Locked { owner, poisoned, data } => {
            let state = match (owner, poisoned) {
                (_, true) => "poisoned".into(),
                (Some(slot), _) => format!("held by participant {slot}"),
                (None, _) => "free".into(),
            };
            let data = data.iter().map(|datum| datum_json(datum).to_string());
            format!("{state}\n{}", elements_text(data, object, most))
        }
        Content::Sums(sums) => elements_text(sums.iter().map(u64::to_string), object, most),
        Content::Queue { waiting, capacity, closed, leases } => {
            let open = if *closed { "closed" } else { "open" };
            let leases = if *leases { "some" } else { "no" };
            format!("{waiting} of {capacity} messages wait; {open}; {leases} leases\n")
        }
        Content::Facts(facts) => {
            facts.iter().map(|(what, number)| format!("{what}: {number}\n")).collect()
        }
        Content::Handles(handles) => elements_text(handles.iter().map(handle_text), object, most),
        _ => format!("{} bytes that belong to another object\n", object.bytes),
    }
}

/// Ten to a line, each line with the place of its first.
fn elements_text(elements: impl Iterator<Item = String>, object: &Object, most: usize) -> String {
    let elements: Vec<String> = elements.collect();
    let mut text = String::new();
    for (line, chunk) in elements.chunks(10).enumerate() {
        text += &format!("{:>8}  {}\n", 10 * line, chunk.join(" "));
    }
    if elements.len() == most && object.bytes > 8 * most as u64 {
        text += "      ..  more with --most\n";
    }
    text
}
