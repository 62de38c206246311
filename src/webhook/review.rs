//! `/validate`: judges one object by the policies of its namespace.
//!
//! Answers from memory wherever it can. Cached facts may allow and never deny: before a refusal that rests on a fact the
//! API server is asked once. What the object had before, or its owner has, warns and no longer denies.

use std::collections::BTreeSet;
use std::sync::Arc;

use portcullis_api::Enforcement;
use portcullis_engine::mutation::{self, Scope};
use portcullis_engine::object::Object;
use portcullis_engine::request::{Operation, Request, parse_as};
use portcullis_engine::{
    CompiledPolicy, Decision, Fact, Facts, Governing, Kind, PodsBehind, Subject, Verdict, evaluate,
    references, select, select_before,
};
use tokio::time::Instant;

use super::owner;
use super::response::Answer;
use crate::context::Context;
use crate::error::describe;
use crate::facts::{self, Backends, Backing, LookUp};

/// Annotation by which a node shows a pod that it runs from a file.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// Judges what `request` asks for; `body` is where it was read from. Facts that are not there at `deadline` are unknown.
pub async fn validate(context: &Context, request: Request<'_>, body: &[u8], deadline: Instant) -> Answer {
    let policies = context.policies.in_force(request.namespace());
    if policies.is_empty() || !is_judged(&request) {
        return Answer::allowed();
    }
    let namespace = request.namespace().to_owned();
    let how = LookUp {
        namespace: &namespace,
        deadline,
        may_bind: !request.is_dry_run(),
    };
    let is_ingress = |object: &Object<'_>| object.kind.as_str() == "Ingress";
    let mut behind = Behind::default();
    if policies.iter().any(|it| asks_for_pods(it)) && request.object.as_ref().is_some_and(is_ingress) {
        behind = pods_behind(context, body, &how).await;
    }
    let writer = request.username().to_owned();
    let Some(mut case) = Case::new(context, &policies, request, behind) else {
        return Answer::allowed();
    };
    let mut verdict = case.judge();
    let deciding = verdict.deciding_facts();
    if !deciding.is_empty() {
        facts::look_up(context, how, &deciding, &mut case.facts).await;
        verdict = case.judge();
    }
    if is_refused(&verdict)
        && let Some(reference) = owner::of(&case.subject, &writer)
    {
        match owner::get(context, how.namespace, &reference, deadline).await {
            Ok(Some(json)) => case.ratchet_by_owner(context, &json, &mut verdict),
            Ok(None) => {}
            Err(cause) => return Answer::failed(&case.subject.to_string(), &cause),
        }
    }
    Answer::judged(&case.subject, &case.governing, verdict)
}

/// Names the object of a request in messages, such as `Deployment agents/api`.
pub fn what(request: &Request<'_>) -> String {
    let kind = request.object.as_ref().map_or("object", |it| it.kind.as_str());
    format!("{kind} {}/{}", request.namespace(), request.name())
}

/// Whether there is anything to judge: nothing new can be broken by deleting or scaling, and a pod that a node runs from
/// a file runs whether we admit its mirror or not.
fn is_judged(request: &Request<'_>) -> bool {
    let Some(object) = &request.object else {
        return false;
    };
    let changes = matches!(request.operation, Operation::Create | Operation::Update);
    let is_mirror =
        object.metadata.annotations.contains_key(MIRROR) && request.username().starts_with("system:node:");
    changes && matches!(request.sub_resource(), "" | "ephemeralcontainers" | "resize") && !is_mirror
}

fn is_refused(verdict: &Verdict) -> bool {
    matches!(verdict.decision(), Decision::Deny | Decision::Error)
}

/// Whether it depends on the pods behind an Ingress what a policy says of it. No other section has a rule for one:
/// origins, and credentials in annotations.
fn asks_for_pods(policy: &CompiledPolicy) -> bool {
    policy.workloads.is_some() && (policy.http.is_some() || policy.secrets.is_some())
}

/// What is known of the pods behind an Ingress; nothing for other kinds.
#[derive(Default)]
struct Behind {
    /// After the change. Pods that it led to before count too: leading elsewhere is no way out.
    now: Option<Fact<PodsBehind>>,
    /// Before the change.
    before: Option<Fact<PodsBehind>>,
}

impl Behind {
    /// `leads_elsewhere`: than before, or who knows. What it had before then does not count, as if it had led to no pods;
    /// as long as it leads to the same Services, whatever they select, it is no worse than it was.
    fn unknown(cause: Arc<str>, leads_elsewhere: bool) -> Self {
        let before = match leads_elsewhere {
            true => Fact::Known(PodsBehind::default()),
            false => Fact::Unknown(Arc::clone(&cause)),
        };
        Self {
            now: Some(Fact::Unknown(cause)),
            before: Some(before),
        }
    }
}

/// The pods behind an Ingress. Only this kind is read twice.
async fn pods_behind(context: &Context, body: &[u8], how: &LookUp<'_>) -> Behind {
    let (new, old) = match parse_as::<Backends>(body) {
        Ok(request) => (
            request.object.unwrap_or_default(),
            request.old_object.unwrap_or_default(),
        ),
        Err(error) => return Behind::unknown(describe(&error).into(), true),
    };
    let leads_elsewhere = new.services() != old.services();
    let services: BTreeSet<String> = new.services().into_iter().chain(old.services()).collect();
    match Backing::look_up(&context.client, how.namespace, &services, None, how.deadline).await {
        Err(cause) => Behind::unknown(cause, leads_elsewhere),
        Ok(backing) => {
            let (mut now, before) = (backing.behind(&new), backing.behind(&old));
            now.labels.extend(before.labels.iter().cloned());
            Behind {
                now: Some(Fact::Known(now)),
                before: Some(Fact::Known(before)),
            }
        }
    }
}

/// One object under the policies that govern it.
struct Case<'r, 'p> {
    policies: &'p [Arc<CompiledPolicy>],
    subject: Subject<'r>,
    governing: Vec<Governing<'p>>,
    /// The object before, under the policies that governed it: what another policy demands it never had.
    old: Option<(Subject<'r>, Vec<Governing<'p>>)>,
    facts: Facts,
    ceiling: Enforcement,
}

impl<'r, 'p> Case<'r, 'p> {
    /// `None` when no policy governs the object.
    fn new(
        context: &Context,
        policies: &'p [Arc<CompiledPolicy>],
        request: Request<'r>,
        behind: Behind,
    ) -> Option<Self> {
        let facts_of = |pods_behind| Facts {
            pods_behind,
            ..Facts::default()
        };
        let (mut facts, before) = (facts_of(behind.now), facts_of(behind.before));
        let namespace = request.namespace().to_owned();
        let mut subject = Subject::new(request.object?, &namespace);
        let old = request.old_object.map(|it| Subject::new(it, &namespace));
        if subject.kind() == Kind::Other {
            return None;
        }
        let all = || policies.iter().map(|it| &**it);
        let governing = select(all(), &subject, old.as_ref(), &facts);
        if governing.is_empty() {
            return None;
        }
        let mut old = old.map(|it| {
            let governing = select_before(all(), &it, &before, &governing);
            (it, governing)
        });
        let ceiling = context.ceiling.get();
        // Pods were mutated on their way here; templates never are, and are judged as if their pods had been.
        let before = old.as_mut().map(|(old, governing)| (old, &*governing));
        for (template, governing) in [Some((&mut subject, &governing)), before].into_iter().flatten() {
            if !template.is_pod() && ceiling > Enforcement::Audit {
                mutation::apply(governing, template, Scope::All);
            }
            context.watched.fill(&namespace, references(template), &mut facts);
        }
        Some(Self {
            policies,
            subject,
            governing,
            old,
            facts,
            ceiling,
        })
    }

    /// The verdict on the object, and where it would be refused, without what it had before.
    fn judge(&self) -> Verdict {
        let mut verdict = self.evaluate(&self.governing, &self.subject);
        if is_refused(&verdict)
            && let Some((old, governing)) = &self.old
        {
            verdict.ratchet(&self.evaluate(governing, old));
        }
        verdict
    }

    /// Takes from the verdict's denials what the template in `owner` has too.
    fn ratchet_by_owner(&mut self, context: &Context, owner: &str, verdict: &mut Verdict) {
        let namespace = self.subject.namespace().to_owned();
        let Ok(mut owner) = Subject::from_json(owner, &namespace) else {
            return;
        };
        let policies = self.policies.iter().map(|it| &**it);
        let governing = select(policies, &owner, None, &self.facts);
        if self.ceiling > Enforcement::Audit {
            mutation::apply(&governing, &mut owner, Scope::All);
        }
        context
            .watched
            .fill(&namespace, references(&owner), &mut self.facts);
        verdict.ratchet_by_owner(&self.evaluate(&governing, &owner));
    }

    fn evaluate(&self, governing: &[Governing<'_>], subject: &Subject<'_>) -> Verdict {
        evaluate(governing, subject, &self.facts, self.ceiling)
    }
}
