//! B1a and B1b: time of judging one Deployment that was parsed already. Also writes the Deployment's pod to a file, for
//! the Pod Security library to judge in `benches/pod-security`.

mod cases;
mod mix;
mod results;

use anyhow::Context as _;
use criterion::Criterion;
use portcullis_engine::Subject;
use serde_json::json;

use cases::Case;

fn main() -> anyhow::Result<()> {
    let object = cases::deployment()?;
    let template = object
        .pointer("/spec/template")
        .context("a Deployment has a template")?;
    let mut pod = template.clone();
    let fields = pod.as_object_mut().context("a template is an object")?;
    fields.extend([("apiVersion".into(), json!("v1")), ("kind".into(), json!("Pod"))]);
    results::write("pod.json", &pod)?;

    let text = object.to_string();
    let mut subject = Subject::from_json(&text, mix::NAMESPACE)?;
    let mut criterion = Criterion::default()
        .output_directory(&results::folder()?.join("criterion"))
        .configure_from_args();
    for case in Case::all()? {
        case.ensure_clean(&mut subject)?;
        criterion.bench_function(case.name, |bencher| bencher.iter(|| case.judge(&mut subject)));
    }
    criterion.final_summary();
    Ok(())
}
