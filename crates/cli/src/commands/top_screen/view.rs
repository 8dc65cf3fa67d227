//! How the screen looks: counts and rates above, a table below, keys at the foot. Also on a screen of 80 columns and 24 rows, and
//! on smaller ones as far as it goes.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Paragraph, Row, Table, TableState};
use stint_api::time;
use stint_client::moment;

use super::model::{Model, Rows, Tab};

/// A picture that is older has to be told so.
const OLD: std::time::Duration = std::time::Duration::from_secs(10);

/// Draws everything.
pub fn draw(frame: &mut Frame<'_>, model: &mut Model) {
    let [head, tabs, body, foot] = Layout::vertical([
        Constraint::Length(3),
        Constraint::Length(1),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    let rows = model.rows();
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let bad = match model.has_colors {
        true => Style::new().fg(Color::Red).add_modifier(Modifier::BOLD),
        false => bold.add_modifier(Modifier::REVERSED),
    };
    let mut lines: Vec<Line<'_>> = vec![first_line(model).into(), counts(model).into()];
    lines.push(match trouble(model) {
        Some(text) => Line::styled(text, bad),
        None => rates(model).into(),
    });
    frame.render_widget(Paragraph::new(lines), head);
    frame.render_widget(Paragraph::new(tab_line(model, &rows)).style(bold), tabs);
    let mut state = TableState::new().with_selected((!rows.rows.is_empty()).then_some(model.place()));
    frame.render_stateful_widget(table(model.tab(), rows, bold), body, &mut state);
    let keys = "q quit  j jobs  p pods  n nodes  s order  r turn  ↑↓ move  space hold";
    frame.render_widget(Paragraph::new(keys).style(Style::new().add_modifier(Modifier::DIM)), foot);
}

fn first_line(model: &Model) -> String {
    let Some(picture) = model.picture() else {
        return "stint top  asking the servers …".to_owned();
    };
    let at = moment(picture.overview.time).map(time::format_seconds).unwrap_or_default();
    let held = if model.is_held { "  HELD" } else { "" };
    let every = stint_api::duration::format_ms(model.interval.as_millis().try_into().unwrap_or(u64::MAX));
    format!("stint top  leader {}  {at}  every {every}{held}", picture.overview.leader)
}

fn counts(model: &Model) -> String {
    let Some(counts) = model.picture().and_then(|picture| picture.overview.counts) else {
        return String::new();
    };
    format!(
        "Jobs {}/{} unfinished  Pods {} run, {} pending ({} unbound)  Nodes {}/{} ready",
        counts.unfinished_jobs,
        counts.jobs,
        counts.pods_running,
        counts.pods_pending,
        counts.pods_unbound,
        counts.nodes_live,
        counts.nodes
    )
}

fn rates(model: &Model) -> String {
    if model.picture().is_none() {
        return String::new();
    }
    let rates = &model.rates;
    format!(
        "Rates {:.1} pods end/s, {:.1} jobs finish/s, {:.1} changes/s",
        rates.pods_ended, rates.jobs_finished, rates.changes
    )
}

/// What keeps the picture from being of now.
fn trouble(model: &Model) -> Option<String> {
    let age = model.age();
    let old = age.filter(|age| *age > OLD.max(model.interval * 3) && !model.is_held);
    let since = age.map(|age| format!(" (picture {} s old)", age.as_secs())).unwrap_or_default();
    match (&model.trouble, old) {
        (Some(text), _) => Some(format!("{}{since}", crate::table::harmless(text))),
        (None, Some(_)) => Some(format!("no answer{since}")),
        (None, None) => None,
    }
}

fn tab_line(model: &Model, rows: &Rows) -> String {
    let mut line = String::new();
    for (tab, name) in [(Tab::Jobs, "Jobs"), (Tab::Pods, "Pods"), (Tab::Nodes, "Nodes")] {
        line.push_str(&if tab == model.tab() { format!("[{name}] ") } else { format!(" {name}  ") });
    }
    let turned = if rows.is_reversed { ", turned" } else { "" };
    let shown = rows.rows.len();
    let of = if (shown as u64) < rows.total { format!(" of {}", rows.total) } else { String::new() };
    line.push_str(&format!("  {shown}{of} by {}{turned}", rows.titles[rows.order]));
    line
}

fn table(tab: Tab, rows: Rows, bold: Style) -> Table<'static> {
    let widths: &[Constraint] = match tab {
        Tab::Jobs => &[
            Constraint::Fill(3),
            Constraint::Fill(1),
            Constraint::Length(11),
            Constraint::Length(11),
            Constraint::Length(6),
            Constraint::Length(6),
            Constraint::Length(6),
            Constraint::Length(6),
        ],
        Tab::Pods => &[
            Constraint::Fill(3),
            Constraint::Fill(1),
            Constraint::Fill(2),
            Constraint::Fill(1),
            Constraint::Length(17),
            Constraint::Length(8),
            Constraint::Length(6),
        ],
        Tab::Nodes => &[
            Constraint::Fill(2),
            Constraint::Fill(2),
            Constraint::Length(11),
            Constraint::Length(15),
            Constraint::Length(15),
            Constraint::Length(14),
        ],
    };
    let titles = Row::new(rows.titles.iter().copied().map(String::from)).style(bold);
    Table::new(rows.rows.into_iter().map(Row::new), widths.iter().copied())
        .header(titles)
        .column_spacing(1)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED))
}

#[cfg(test)]
mod tests {
    use super::super::feed::News;
    use super::super::model::{Action, test_picture};
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use std::time::{Duration, Instant};

    fn drawn(model: &mut Model, columns: u16, rows: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
        terminal.draw(|frame| draw(frame, model)).unwrap();
        let buffer = terminal.backend().buffer();
        let line = |row| (0..columns).map(|column| buffer[(column, row)].symbol()).collect::<String>();
        (0..rows).map(|row| line(row).trim_end().to_owned()).collect()
    }

    #[test]
    fn everything_fits_on_80_columns_and_24_rows() {
        let mut model = Model::new(Duration::from_secs(2), false);
        assert!(drawn(&mut model, 80, 24)[0].contains("asking the servers"));
        model.take(News::Picture(test_picture(40, 4, Instant::now())));
        let lines = drawn(&mut model, 80, 24);
        assert_eq!(lines[0], "stint top  leader s1  1970-01-01T00:02:10Z  every 2s");
        assert_eq!(lines[1], "Jobs 40/44 unfinished  Pods 3 run, 1 pending (1 unbound)  Nodes 1/2 ready");
        assert!(lines[3].starts_with("[Jobs]  Pods   Nodes"), "{}", lines[3]);
        assert!(lines[4].starts_with("NAME ") && lines[4].ends_with("AGE"), "{}", lines[4]);
        assert!(lines[5].starts_with("job-40 ") && lines[5].contains("Running"), "{}", lines[5]);
        assert!(lines[23].starts_with("q quit"), "{}", lines[23]);
        model.act(Action::Move(i64::MAX));
        let lines = drawn(&mut model, 80, 24);
        assert!(lines[22].starts_with("job-1 "), "the marked row is seen: {}", lines[22]);
        for (action, expected) in [(Action::Pods, "job-1-abcde"), (Action::Nodes, "w1 ")] {
            model.act(action);
            let lines = drawn(&mut model, 80, 24);
            assert!(lines[5].starts_with(expected), "{}", lines[5]);
        }
    }

    #[test]
    fn trouble_is_said_and_small_screens_do_no_harm() {
        let mut model = Model::new(Duration::from_secs(2), true);
        model.take(News::Trouble("no leader: s2 answers".to_owned()));
        assert!(drawn(&mut model, 80, 24)[2].starts_with("no leader: s2 answers"));
        model.take(News::Picture(test_picture(3, 4, Instant::now())));
        assert!(drawn(&mut model, 80, 24)[2].starts_with("Rates"));
        for (columns, rows) in [(1, 1), (5, 3), (20, 5), (40, 10), (300, 80)] {
            for action in [Action::Jobs, Action::Pods, Action::Nodes] {
                model.act(action);
                drawn(&mut model, columns, rows);
            }
        }
    }
}
