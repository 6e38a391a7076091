//! Forms: each carries the id of its request, made when it is rendered, and what proves its page.

use super::{
    acts::{Act, Said},
    parts,
    visit::Visit,
};
use maud::{Markup, html};

/// One input of a form.
pub(super) struct Input<'a> {
    name: &'static str,
    label: &'static str,
    kind: Kind<'a>,
}

enum Kind<'a> {
    Text(&'a str),
    Number,
    Choice(&'a [(String, String)]),
    /// What it is for, as browsers and their keepers of passwords know it.
    Secret(&'static str),
}

impl<'a> Input<'a> {
    /// A line of text, with what stands in it at first.
    pub(super) const fn text(name: &'static str, label: &'static str, value: &'a str) -> Self {
        Self { name, label, kind: Kind::Text(value) }
    }

    /// A number.
    pub(super) const fn number(name: &'static str, label: &'static str) -> Self {
        Self { name, label, kind: Kind::Number }
    }

    /// A password that is chosen, or the present one: `new-password` or `current-password`.
    pub(super) const fn secret(name: &'static str, label: &'static str, what: &'static str) -> Self {
        Self { name, label, kind: Kind::Secret(what) }
    }

    /// One of these, each a value and what people read.
    pub(super) const fn choice(name: &'static str, label: &'static str, of: &'a [(String, String)]) -> Self {
        Self { name, label, kind: Kind::Choice(of) }
    }

    fn show(&self, form: &str) -> Markup {
        let id = format!("{form}-{}", self.name);
        html! {
            p {
                label for=(id) { (self.label) }
                @match &self.kind {
                    Kind::Text(value) => {
                        input id=(id) name=(self.name) value=(value) required autocomplete="off" spellcheck="false";
                    }
                    Kind::Number => { input id=(id) name=(self.name) type="number" min="0" required; }
                    Kind::Secret(what) => {
                        input id=(id) name=(self.name) type="password" required autocomplete=(what);
                    }
                    Kind::Choice(of) => {
                        select id=(id) name=(self.name) {
                            @for (value, text) in *of { option value=(value) { (text) } }
                        }
                    }
                }
            }
        }
    }
}

/// What the visitor may do here, each act folded away until it is wanted.
pub(super) fn section(visit: &Visit, acts: &[(&Act, Vec<Input<'_>>)], fixed: &[(&str, &str)]) -> Markup {
    let acts: Vec<_> = acts.iter().filter(|(act, _)| visit.may(act.method, act.path)).collect();
    html! {
        section .acts aria-labelledby="acts-heading" {
            h2 #acts-heading { "What can be done" }
            @for (act, inputs) in &acts { (form(visit, act, inputs, fixed)) }
            @if acts.is_empty() { p { "Nothing with this login: here it may read only." } }
        }
    }
}

fn form(visit: &Visit, act: &Act, inputs: &[Input<'_>], fixed: &[(&str, &str)]) -> Markup {
    // What the command looks like before anything is typed.
    let mut pattern: Vec<(String, String)> =
        fixed.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    pattern.extend(inputs.iter().map(|input| (input.name.to_owned(), input.name.to_uppercase())));
    let fixed: Vec<(String, String)> =
        fixed.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    html! {
        details .act {
            summary { (act.title) }
            form method="post" action={ "/do/" (act.key) } {
                (hidden(visit, &fixed))
                @for input in inputs { (input.show(act.key)) }
                p .note { (act.note) }
                button { (act.title) }
                (parts::command(&act.command(&Said(pattern))))
            }
        }
    }
}

/// What every form carries besides what is typed.
pub(super) fn hidden(visit: &Visit, fields: &[(String, String)]) -> Markup {
    html! {
        input type="hidden" name="csrf" value=(visit.csrf);
        @if !fields.iter().any(|(name, _)| name == REQUEST) {
            input type="hidden" name=(REQUEST) value=(visit.request_id());
        }
        @for (name, value) in fields { input type="hidden" name=(name) value=(value); }
    }
}

/// The field that names the request.
pub(super) const REQUEST: &str = "request_id";
