//! The one way of writing things that users may write in several: applied before storing a spec.

use std::sync::Arc;

use types::ServiceSpec;

/// Writes capabilities as `CAP_…` and stop signals as `SIG…`, in capitals.
///
/// Two ways of writing the same must not look like a change, which would replace every task.
pub(crate) fn service_spec(spec: &mut ServiceSpec) {
    let container = &spec.task.container;
    let add = capabilities(&container.capability_add);
    let drop = capabilities(&container.capability_drop);
    let signal = stop_signal(&container.stop_signal);
    if add == container.capability_add
        && drop == container.capability_drop
        && signal == container.stop_signal
    {
        return;
    }
    let container = &mut Arc::make_mut(&mut spec.task).container;
    container.capability_add = add;
    container.capability_drop = drop;
    container.stop_signal = signal;
}

/// Sorted, each once.
fn capabilities(names: &[String]) -> Vec<String> {
    let mut names: Vec<String> = names
        .iter()
        .map(|name| {
            let name = name.to_ascii_uppercase();
            if name == "ALL" || name.starts_with("CAP_") {
                name
            } else {
                format!("CAP_{name}")
            }
        })
        .collect();
    names.sort();
    names.dedup();
    names
}

fn stop_signal(name: &str) -> String {
    let upper = name.to_ascii_uppercase();
    if name.is_empty() || upper.starts_with("SIG") || name.bytes().all(|c| c.is_ascii_digit()) {
        upper
    } else {
        format!("SIG{upper}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_of_writing_become_one() {
        let mut spec = ServiceSpec::default();
        let container = &mut Arc::make_mut(&mut spec.task).container;
        container.capability_add = ["net_admin", "CAP_SYS_TIME", "cap_net_admin"]
            .map(String::from)
            .to_vec();
        container.capability_drop = vec!["all".into()];
        container.stop_signal = "term".into();
        service_spec(&mut spec);
        let container = &spec.task.container;
        assert_eq!(container.capability_add, ["CAP_NET_ADMIN", "CAP_SYS_TIME"]);
        assert_eq!(container.capability_drop, ["ALL"]);
        assert_eq!(container.stop_signal, "SIGTERM");
        for (given, expected) in [
            ("", ""),
            ("9", "9"),
            ("sigint", "SIGINT"),
            ("RTMIN+3", "SIGRTMIN+3"),
        ] {
            assert_eq!(stop_signal(given), expected, "{given}");
        }
    }

    #[test]
    fn a_plain_spec_keeps_sharing_its_task() {
        let mut spec = ServiceSpec::default();
        let shared = spec.task.clone();
        service_spec(&mut spec);
        assert!(Arc::ptr_eq(&shared, &spec.task));
    }
}
