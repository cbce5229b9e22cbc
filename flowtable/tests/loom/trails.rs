//! Trails, while workers enter them and one reads.

use loom::thread;

use super::*;

fn rules(trails: &Trails, trail: TrailId) -> Vec<u32> {
    trails.rules(trail).map(|rule| rule.0).collect()
}

fn extend(trails: &Trails, rest: u32, rule: u32) -> Option<TrailId> {
    trails.extend(TrailEra::default(), RuleId(rest).into(), RuleId(rule))
}

/// Two workers enter one trail, in a half of two places where another trail's home may be the same, and one goes on from
/// there: a trail has one number, and no number two trails.
#[test]
fn two_enter_one_trail() {
    model(3, || {
        let table = table(1);
        let other = thread::spawn({
            let table = Arc::clone(&table);
            move || {
                let same = extend(table.trails(), 1, 2).expect("room for both");
                let more =
                    table.trails().extend(TrailEra::default(), same, RuleId(3)).expect("room for both");
                (same, more)
            }
        });
        let trails = table.trails();
        let same = extend(trails, 1, 2).expect("room for both");
        assert_eq!(rules(trails, same), [2, 1]);
        // What the other is about to enter, or has entered.
        for trail in trails.iter() {
            assert!([vec![2, 1], vec![3, 2, 1]].contains(&rules(trails, trail)));
        }
        let (others, more) = other.join().unwrap();
        assert_eq!(same, others);
        assert_eq!(rules(trails, more), [3, 2, 1]);
        assert_eq!((trails.used(TrailEra::default()), trails.iter().count()), (2, 2));
    });
}

/// Three trails and two places: two of them find one, whoever comes first, and the third is refused.
#[test]
fn trails_that_want_more_places_than_there_are() {
    model(3, || {
        let table = table(1);
        let other = thread::spawn({
            let table = Arc::clone(&table);
            move || [extend(table.trails(), 1, 2), extend(table.trails(), 3, 4)]
        });
        let trails = table.trails();
        let mine = extend(trails, 5, 6);
        let [first, second] = other.join().unwrap();
        let made = [(mine, [6, 5]), (first, [2, 1]), (second, [4, 3])];
        assert_eq!(made.iter().filter(|(trail, _)| trail.is_some()).count(), 2);
        for (trail, expected) in made {
            assert!(trail.is_none_or(|trail| rules(trails, trail) == expected));
        }
        assert_eq!(trails.used(TrailEra::default()), 2);
    });
}

/// A worker that finds a trail in an entry reads the whole of it.
#[test]
fn who_reads_an_entry_reads_its_trail() {
    model(3, || {
        let table = table(1);
        let k = key(&table, 0);
        let flow = new(insert(&table, &k)).flow;
        let other = thread::spawn({
            let table = Arc::clone(&table);
            move || {
                let trails = table.trails();
                let logged = extend(trails, 1, 2).expect("room");
                let staged = trails.extend(TrailEra::default(), logged, RuleId(3)).expect("room");
                let Judged { actions, .. } = judged(&k, 1, 2);
                assert!(table.renew(flow, Judged { actions, trails: [staged, logged] }));
            }
        });
        let found = table.lookup(&k, table.hash(&k), 2).expect("present").trails.ids();
        if found != trails(&k, 0) {
            assert_eq!(found.map(|trail| rules(table.trails(), trail)), [vec![3, 2, 1], vec![2, 1]]);
        }
        other.join().unwrap();
    });
}
