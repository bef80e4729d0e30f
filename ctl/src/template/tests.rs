//! Tables of templates: what they come to, and what is wrong with them.

use serde_json::{Value, json};

use super::Template;

fn service() -> Value {
    json!({
        "ID": "abc",
        "Spec": {
            "Name": "web",
            "Labels": { "zone": "a", "owner": "ops" },
            "Mode": { "Replicated": { "Replicas": 3 } },
            "Env": ["A=1", "B=2"],
            "Empty": [],
        },
        "UpdateStatus": null,
        "Leader": true,
    })
}

/// What a template comes to: the text, or what is wrong.
fn fill(template: &str) -> String {
    Template::parse(template)
        .and_then(|template| template.fill(&service()))
        .unwrap_or_else(|error| format!("! {error}"))
}

#[test]
fn values_and_blocks() {
    for (template, expected) in [
        ("plain", "plain"),
        ("{{.ID}}", "abc"),
        ("{{ .Spec.Name }}/{{.ID}}", "web/abc"),
        ("{{json .Spec.Env}}", r#"["A=1","B=2"]"#),
        ("{{json .UpdateStatus}}", "null"),
        ("{{.Spec.Env}}", "[A=1 B=2]"),
        ("{{.Spec.Labels}}", "map[owner:ops zone:a]"),
        ("{{.Spec.Labels.zone}}", "a"),
        ("{{.Spec.Labels.nope}}", "<no value>"),
        ("{{index .Spec.Labels \"zone\"}}", "a"),
        ("{{index .Spec.Env 1}}", "B=2"),
        ("{{(index .Spec.Labels \"owner\") | upper}}", "OPS"),
        ("{{with .Spec}}{{.Name}} of {{$.ID}}{{end}}", "web of abc"),
        ("{{if .Leader}}yes{{else}}no{{end}}", "yes"),
        (
            "{{if .UpdateStatus}}{{.UpdateStatus.State}}{{else}}none{{end}}",
            "none",
        ),
        (
            "{{if eq .ID \"x\"}}1{{else if eq .ID \"abc\"}}2{{else}}3{{end}}",
            "2",
        ),
        ("{{range .Spec.Env}}{{.}};{{end}}", "A=1;B=2;"),
        (
            "{{range $i, $e := .Spec.Env}}{{$i}}:{{$e}} {{end}}",
            "0:A=1 1:B=2 ",
        ),
        (
            "{{range $k, $v := .Spec.Labels}}{{$k}}={{$v}},{{end}}",
            "owner=ops,zone=a,",
        ),
        ("{{range .Spec.Empty}}x{{else}}empty{{end}}", "empty"),
        ("{{range .UpdateStatus}}x{{end}}", ""),
        (
            "{{$n := .Spec.Name}}{{range .Spec.Env}}{{$n}} {{end}}",
            "web web ",
        ),
        ("{{$n := 1}}{{if true}}{{$n = 2}}{{end}}{{$n}}", "2"),
        ("{{$n := 1}}{{if true}}{{$n := 2}}{{end}}{{$n}}", "1"),
        ("a {{- .ID -}} b", "aabcb"),
        ("a{{/* not shown */}}b", "ab"),
        ("{{.ID}}\\t{{.Spec.Name}}", "abc\tweb"),
        ("{{with .UpdateStatus}}x{{else}}{{.ID}}{{end}}", "abc"),
        ("{{\"a\\\"b\"}}{{`c`}}", "a\"bc"),
    ] {
        assert_eq!(fill(template), expected, "{template}");
    }
}

#[test]
fn functions() {
    for (template, expected) in [
        ("{{upper .ID}}{{.ID | upper | lower}}", "ABCabc"),
        ("{{title \"ready now\"}}", "Ready Now"),
        ("{{join .Spec.Env \", \"}}", "A=1, B=2"),
        ("{{join (split \"a.b.c\" \".\") \"-\"}}", "a-b-c"),
        ("{{pad .ID 1 2}}|", " abc  |"),
        ("{{truncate .ID 2}}", "ab"),
        ("{{println .ID .Leader}}", "abc true\n"),
        ("{{print .ID .Leader}}", "abctrue"),
        (
            "{{printf \"%s has %d of %v%%\" .ID 3 .Spec.Mode.Replicated.Replicas}}",
            "abc has 3 of 3%",
        ),
        (
            "{{printf \"%-5s|%5s|%.2f|%q\" .ID .ID 1.5 .ID}}",
            "abc  |  abc|1.50|\"abc\"",
        ),
        ("{{len .Spec.Env}}{{len .Spec.Labels}}{{len .ID}}", "223"),
        (
            "{{if and .Leader (gt .Spec.Mode.Replicated.Replicas 2)}}big{{end}}",
            "big",
        ),
        ("{{or .UpdateStatus .ID}}", "abc"),
        ("{{not .Leader}}", "false"),
        (
            "{{ne .ID \"x\"}}{{lt 1 2}}{{le 2 2}}{{ge 1 2}}",
            "truetruetruefalse",
        ),
        ("{{eq .ID \"x\" \"abc\"}}", "true"),
    ] {
        assert_eq!(fill(template), expected, "{template}");
    }
}

#[test]
fn mistakes_are_named_and_placed() {
    for (template, words) in [
        (
            "{{.Nope}}",
            "no field .Nope: there are ID, Leader, Spec, UpdateStatus (at character 3)",
        ),
        ("{{.Spec.Nope}}", "no field .Spec.Nope: there are"),
        ("{{.ID.Nope}}", "no field .ID.Nope: .ID is a text"),
        (
            "{{.UpdateStatus.State}}",
            "no field .UpdateStatus.State: .UpdateStatus has no value",
        ),
        ("a{{.ID", "\"{{\" is not closed"),
        ("{{if .ID}}x", "the if block is not closed"),
        ("{{range .Spec.Env}}x", "block is not closed"),
        ("{{end}}", "{{end}} does not belong to any block"),
        ("{{if .ID}}{{else}}{{else}}{{end}}", "a second {{else}}"),
        ("{{}}", "a value is missing"),
        ("{{.ID | }}", "a value is missing"),
        ("{{nope .ID}}", "function \"nope\" is not known"),
        ("{{.ID .ID}}", "this is not a function"),
        ("{{$x}}", "variable $x is not defined"),
        ("{{$x = 1}}", "variable $x is not defined"),
        ("{{\"a}}", "the string is not closed"),
        (
            "{{join .ID \",\"}}",
            "join takes a list and a text, not a text and a text",
        ),
        ("{{upper .Spec.Env}}", "upper takes a text, not a list"),
        ("{{upper}}", "upper takes 1, not 0 values"),
        ("{{index .Spec.Env 9}}", "index 9 is outside a list of 2"),
        ("{{range .ID}}{{end}}", "range cannot go over a text"),
        ("{{template \"x\"}}", "{{template}} is not supported"),
        ("{{(.ID}}", "\"(\" is not closed"),
        ("{{.ID ? 1}}", "'?' has no meaning here"),
        ("{{pad .ID 99999999 1}}", "is not a number of characters"),
        ("{{printf \"%d\" .ID}}", "%d cannot show a text"),
        ("{{printf \"%s\"}}", "a value for %s is missing"),
        ("{{1x}}", "\"1x\" is not a number"),
    ] {
        let outcome = fill(template);
        assert!(outcome.starts_with("! template: "), "{template}: {outcome}");
        assert!(outcome.contains(words), "{template}: {outcome}");
    }
}
