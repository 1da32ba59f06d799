//! A picture of one outage twice: with the default settings, and with requests that do not wait for its end.

use std::{error::Error, fs, path::Path};

use plotters::{coord::Shift, prelude::*};

use crate::timeline::{self, Run, SECONDS, STEP, Step, per_second};

const SIZE: (u32, u32) = (1200, 700);
const HEADER: u32 = 84;

// Okabe and Ito's colors, which color-blind people can distinguish.
const CONNECTS: RGBColor = RGBColor(213, 94, 0);
const REQUESTS: RGBColor = RGBColor(0, 114, 178);
const WAITING: RGBColor = RGBColor(0, 158, 115);
const FAILED: RGBColor = RGBColor(204, 121, 167);
const INK: RGBColor = RGBColor(40, 40, 40);
const GRID: RGBColor = RGBColor(225, 225, 225);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// A quantity, its color, and how it follows from a step.
type Series = (RGBColor, fn(&Step) -> usize);

const LOAD: [Series; 2] =
    [(CONNECTS, |step| step.connects * per_second()), (REQUESTS, |step| step.arrived * per_second())];
const CALLERS: [Series; 2] = [(WAITING, |step| step.waiting), (FAILED, |step| step.failed)];

/// Draws both runs into an SVG file.
pub(crate) async fn run(gateway: &str, folder: &Path, file: &Path) {
    let parked = timeline::measure("Default settings", gateway, folder.join("wait"), &[]).await;
    let not_parked =
        timeline::measure("--outage-wait off", gateway, folder.join("off"), &["--outage-wait", "off"]).await;
    for run in [&parked, &not_parked] {
        let most = |count: fn(&Step) -> usize| run.steps.iter().map(count).max().unwrap();
        println!(
            "{}: at most {} connects and {} requests per second at the upstream, {} waiting requests; {} failed",
            run.title,
            most(|step| step.connects * per_second()),
            most(|step| step.arrived * per_second()),
            most(|step| step.waiting),
            most(|step| step.failed)
        );
    }
    fs::write(file, svg(&[parked, not_parked]).unwrap()).unwrap();
}

fn svg(runs: &[Run]) -> Result<String, Box<dyn Error>> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        root.fill(&WHITE)?; // The page may be dark.
        let (header, panels) = root.split_vertically(HEADER);
        draw_header(&header)?;
        let columns = panels.split_evenly((1, runs.len()));
        for (column, run) in columns.iter().zip(runs) {
            let name = ("sans-serif", 18, FontStyle::Bold, &INK).into_text_style(column);
            column.draw_text(run.title, &name, (76, 4))?;
            let (_, column) = column.split_vertically(24);
            let rows = column.split_evenly((2, 1));
            draw_panel(&rows[0], "per second at the upstream", run, runs, &LOAD)?;
            draw_panel(&rows[1], "requests", run, runs, &CALLERS)?;
        }
        root.present()?;
    }
    Ok(svg)
}

fn draw_header(area: &Area<'_>) -> Result<(), Box<dyn Error>> {
    let title = ("sans-serif", 24, FontStyle::Bold, &INK).into_text_style(area);
    area.draw_text("An outage of eight seconds at 400 requests per second", &title, (20, 12))?;
    let text = ("sans-serif", 16, &INK).into_text_style(area);
    let y = 58;
    let entries = [
        (CONNECTS, "connects"),
        (REQUESTS, "requests at the upstream"),
        (WAITING, "waiting requests"),
        (FAILED, "failed so far"),
    ];
    for ((color, label), x) in entries.into_iter().zip([20, 160, 400, 590]) {
        area.draw(&PathElement::new([(x, y), (x + 30, y)], color.stroke_width(3)))?;
        area.draw_text(label, &text, (x + 38, y - 8))?;
    }
    area.draw(&Rectangle::new([(760, y - 8), (790, y + 8)], INK.mix(0.12).filled()))?;
    Ok(area.draw_text("upstream away", &text, (798, y - 8))?)
}

/// Draws series of a run, on an axis that fits all runs.
fn draw_panel(area: &Area<'_>, what: &str, run: &Run, all: &[Run], series: &[Series]) -> Result<(), Box<dyn Error>> {
    let counts = all.iter().flat_map(|run| &run.steps).flat_map(|step| series.iter().map(|(_, count)| count(step)));
    let top = counts.max().unwrap_or(1) as f64 * 1.05;
    let mut chart = ChartBuilder::on(area)
        .margin_top(8)
        .margin_right(16)
        .margin_bottom(16)
        .margin_left(12)
        .x_label_area_size(40)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..f64::from(SECONDS), 0.0..top)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(INK)
        .label_style(("sans-serif", 13, &INK))
        .axis_desc_style(("sans-serif", 14, &INK))
        .x_desc("time in seconds")
        .y_desc(what)
        .x_labels(11)
        .y_labels(5)
        .x_label_formatter(&|second| format!("{second:.0}"))
        .y_label_formatter(&|count| format!("{count:.0}"))
        .draw()?;
    let outage = Rectangle::new([(run.outage.start, 0.0), (run.outage.end, top)], INK.mix(0.12).filled());
    chart.draw_series([outage])?;
    for (color, count) in series {
        let middle = |number: usize| (number as f64 + 0.5) * STEP as f64 / 1e6;
        let points = run.steps.iter().enumerate().map(|(number, step)| (middle(number), count(step) as f64));
        chart.draw_series(LineSeries::new(points, color.stroke_width(2)))?;
    }
    Ok(())
}
