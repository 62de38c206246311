//! B1a and B1b: allocations of judging one Deployment that was parsed already. Apart from `evaluate`, since counting
//! takes time.

mod cases;
mod mix;
mod results;

use std::hint::black_box;

use portcullis_engine::Subject;
use serde_json::{Map, json};

use cases::Case;

fn main() -> anyhow::Result<()> {
    let text = cases::deployment()?.to_string();
    let mut subject = Subject::from_json(&text, mix::NAMESPACE)?;
    let mut counts = Map::new();
    for case in Case::all()? {
        case.ensure_clean(&mut subject)?;
        let count = allocation_counter::measure(|| drop(black_box(case.judge(&mut subject))));
        let (allocations, bytes) = (count.count_total, count.bytes_total);
        println!("{}: {allocations} allocations, {bytes} bytes", case.name);
        counts.insert(
            case.name.into(),
            json!({"allocations": allocations, "bytes": bytes}),
        );
    }
    results::write("allocations.json", &json!(counts))
}
