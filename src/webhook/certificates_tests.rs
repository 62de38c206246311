use super::*;

fn names() -> BTreeSet<String> {
    BTreeSet::from([
        "portcullis-webhook.portcullis-system.svc".to_owned(),
        "127.0.0.1".to_owned(),
    ])
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn due(stored: &Certificates, seconds: i64) -> Option<Certificates> {
    renew(Some(stored), &names(), at(seconds)).unwrap()
}

fn authorities(certificates: &Certificates) -> Vec<Parsed> {
    let blocks = certificates.ca_bundle.split_inclusive(END);
    blocks.filter_map(Parsed::read).collect()
}

fn serving(certificates: &Certificates) -> Parsed {
    Parsed::read(&certificates.certificate).unwrap()
}

/// Runs the state machine twice a day, as the operator does more often, and checks after each step that what is served is
/// valid and trusted, also by an API server that learnt of the bundle only at the step before.
#[test]
fn r11_over_three_years_what_is_served_is_always_trusted() {
    let mut stored = renew(None, &names(), at(0)).unwrap().unwrap();
    let mut bundle_before = authorities(&stored);
    let mut served_by = BTreeSet::new();
    for half_day in 1..3 * 365 * 2 {
        let now = half_day * DAY / 2;
        if let Some(renewed) = due(&stored, now) {
            stored = renewed;
        }
        let serving = serving(&stored);
        let second = at(now).as_second();
        assert!(
            serving.not_before < second && second < serving.not_after,
            "half day {half_day}"
        );
        for bundle in [&bundle_before, &authorities(&stored)] {
            let issuer = bundle.iter().find(|it| it.subject == serving.issuer);
            assert!(
                issuer.is_some_and(|it| second < it.not_after),
                "half day {half_day}"
            );
        }
        assert!(authorities(&stored).len() <= 2, "half day {half_day}");
        served_by.insert(serving.issuer);
        bundle_before = authorities(&stored);
    }
    assert_eq!(served_by.len(), 5);
}

#[test]
fn r03_the_first_certificates_are_complete_and_stay() {
    let stored = renew(None, &names(), at(0)).unwrap().unwrap();
    assert_eq!(serving(&stored).names, names());
    assert_eq!(serving(&stored).issuer, authorities(&stored)[0].subject);
    assert_eq!(due(&stored, 0), None);
    assert_eq!(due(&stored, 59 * DAY), None);
}

#[test]
fn r10_the_serving_certificate_is_renewed_when_a_third_of_its_life_is_left() {
    let stored = renew(None, &names(), at(0)).unwrap().unwrap();
    let renewed = due(&stored, 61 * DAY).unwrap();
    assert_ne!(renewed.certificate, stored.certificate);
    assert_eq!(
        (&renewed.ca_bundle, &renewed.ca_key),
        (&stored.ca_bundle, &stored.ca_key)
    );
    assert_eq!(renewed.token, stored.token);
}

#[test]
fn r11_a_new_authority_is_trusted_for_ten_minutes_before_it_issues() {
    let first = renew(None, &names(), at(0)).unwrap().unwrap();
    let with_serving = due(&first, 200 * DAY).unwrap();
    let overlapping = due(&with_serving, 250 * DAY).unwrap();
    assert_eq!(overlapping.certificate, with_serving.certificate);
    assert_eq!(authorities(&overlapping).len(), 2);
    assert_eq!(due(&overlapping, 250 * DAY + OVERLAP - 1), None);
    let served = due(&overlapping, 250 * DAY + OVERLAP).unwrap();
    assert_eq!(serving(&served).issuer, authorities(&served)[1].subject);
    let renewed = due(&served, 366 * DAY).unwrap();
    assert_eq!(
        authorities(&renewed).len(),
        2,
        "the serving certificate is renewed first"
    );
    let dropped = due(&renewed, 366 * DAY).unwrap();
    assert_eq!(authorities(&dropped).len(), 1);
}

#[test]
fn another_name_gets_another_serving_certificate_at_once() {
    let stored = renew(None, &names(), at(0)).unwrap().unwrap();
    let other = BTreeSet::from(["localhost".to_owned()]);
    let renewed = renew(Some(&stored), &other, at(1)).unwrap().unwrap();
    assert_eq!(serving(&renewed).names, other);
    assert_eq!(renewed.ca_bundle, stored.ca_bundle);
}

#[test]
fn r13_what_does_not_fit_together_is_made_anew() {
    let stored = renew(None, &names(), at(0)).unwrap().unwrap();
    let other = renew(None, &names(), at(0)).unwrap().unwrap();
    let wrong_key = Certificates {
        key: other.key.clone(),
        ..stored.clone()
    };
    assert_eq!(due(&wrong_key, 1).unwrap().ca_bundle, stored.ca_bundle);
    let wrong_authority = Certificates {
        ca_key: other.ca_key,
        ..stored.clone()
    };
    assert_ne!(due(&wrong_authority, 1).unwrap().ca_bundle, stored.ca_bundle);
    let garbage = Certificates {
        ca_bundle: "garbage".to_owned(),
        ..stored
    };
    assert_eq!(authorities(&due(&garbage, 1).unwrap()).len(), 1);
}

#[test]
fn no_key_is_ever_shown() {
    let stored = renew(None, &names(), at(0)).unwrap().unwrap();
    assert_eq!(format!("{stored:?}"), "Certificates { .. }");
}
