//! B1a and B1b: allocations of judging one Deployment that was parsed already. Apart from `evaluate`, since counting
//! takes time.

mod cases;
mod mix;

use std::hint::black_box;

use portcullis_engine::Subject;
use serde_json::{Map, json};

use cases::Case;

fn main() -> anyhow::Result<()> {
    let text = cases::deployment()?.to_string();
    let mut subject = Subject::from_json(&text, mix::NAMESPACE)?;
    let mut results = Map::new();
    for case in Case::all()? {
        case.ensure_clean(&mut subject)?;
        let count = allocation_counter::measure(|| drop(black_box(case.judge(&mut subject))));
        println!(
            "{}: {} allocations, {} bytes",
            case.name, count.count_total, count.bytes_total
        );
        results.insert(
            case.name.into(),
            json!({"allocations": count.count_total, "bytes": count.bytes_total}),
        );
    }
    std::fs::write(
        cases::results()?.join("allocations.json"),
        json!(results).to_string(),
    )?;
    Ok(())
}
