//! The picture: load and served attempts over time, for each policy.

use std::error::Error;

use plotters::{coord::Shift, prelude::*};

use crate::{
    model::ARRIVALS,
    report::percent,
    server::{CAPACITY, OUTAGE},
    summary::Summary,
};

const SIZE: (u32, u32) = (1200, 800);
const HEADER: u32 = 84;
const COLUMNS: usize = 3;

// Okabe and Ito's colors, which color-blind people can distinguish.
const LOAD: RGBColor = RGBColor(213, 94, 0);
const LOAD_FILL: RGBColor = RGBColor(248, 223, 204);
const SERVED: RGBColor = RGBColor(0, 114, 178);
const SERVED_FILL: RGBColor = RGBColor(204, 227, 240);
const INK: RGBColor = RGBColor(40, 40, 40);
const GRID: RGBColor = RGBColor(225, 225, 225);

/// The axis of attempts per second. The normal load is in its second decade.
const AXIS: std::ops::Range<f64> = 100.0..400_000.0;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

pub(crate) fn svg(summaries: &[Summary<'_>]) -> Result<String, Box<dyn Error>> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        root.fill(&WHITE)?; // The page may be dark.
        let (header, panels) = root.split_vertically(HEADER);
        draw_header(&header)?;
        let shown: Vec<_> = summaries.iter().filter(|summary| summary.contender.pictured).collect();
        let cells = panels.split_evenly((shown.len().div_ceil(COLUMNS), COLUMNS));
        for (cell, summary) in cells.iter().zip(&shown) {
            draw_panel(cell, summary)?;
        }
        root.present()?;
    }
    Ok(svg)
}

fn draw_header(area: &Area<'_>) -> Result<(), Box<dyn Error>> {
    let title = ("sans-serif", 24, FontStyle::Bold, &INK).into_text_style(area);
    area.draw_text("A million calls, one minute of outage, six retry policies", &title, (20, 12))?;
    let text = ("sans-serif", 16, &INK).into_text_style(area);
    let y = 58;
    let entry = |x, label, style: ShapeStyle| -> Result<(), Box<dyn Error>> {
        area.draw(&PathElement::new([(x, y), (x + 30, y)], style))?;
        Ok(area.draw_text(label, &text, (x + 38, y - 8))?)
    };
    entry(20, "attempts", LOAD.stroke_width(3))?;
    entry(160, "attempts served", SERVED.stroke_width(3))?;
    for dash in 0..3 {
        area.draw(&PathElement::new([(370 + dash * 11, y), (377 + dash * 11, y)], INK.stroke_width(2)))?;
    }
    area.draw_text("capacity of the server", &text, (408, y - 8))?;
    area.draw(&Rectangle::new([(640, y - 8), (670, y + 8)], INK.mix(0.12).filled()))?;
    Ok(area.draw_text("server down", &text, (678, y - 8))?)
}

fn draw_panel(area: &Area<'_>, summary: &Summary<'_>) -> Result<(), Box<dyn Error>> {
    let name = ("sans-serif", 18, FontStyle::Bold, &INK).into_text_style(area);
    let text = ("sans-serif", 14, &INK).into_text_style(area);
    let recovery = match summary.recovery {
        Some(0) => "at once".into(),
        Some(seconds) => format!("after {seconds} s"),
        None => "never".into(),
    };
    let outcome = format!("server recovers: {recovery}; failed calls: {}", percent(summary.lost));
    area.draw_text(summary.contender.name, &name, (66, 4))?;
    area.draw_text(summary.contender.terms, &text, (66, 26))?;
    area.draw_text(&outcome, &text, (66, 44))?;

    let [start, end, arrivals] = [OUTAGE.start, OUTAGE.end, ARRIVALS].map(|millis| f64::from(millis) / 1000.0);
    let mut chart = ChartBuilder::on(area)
        .margin_top(66)
        .margin_right(16)
        .margin_bottom(16)
        .margin_left(12)
        .x_label_area_size(40)
        .y_label_area_size(54)
        .build_cartesian_2d(0.0..arrivals, AXIS.log_scale())?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(INK)
        .label_style(("sans-serif", 13, &INK))
        .axis_desc_style(("sans-serif", 14, &INK))
        .x_desc("time in seconds")
        .y_desc("attempts per second (log scale)")
        .x_labels(7)
        .y_labels(4)
        .x_label_formatter(&|second| format!("{second:.0}"))
        .y_label_formatter(&|attempts| thousands(*attempts))
        .draw()?;

    let series = |count: fn(&crate::model::Second) -> u32| {
        let seconds = summary.run.seconds.iter().enumerate().take(arrivals as usize);
        seconds.map(move |(number, second)| (number as f64 + 0.5, f64::from(count(second)).max(AXIS.start)))
    };
    let capacity = [(0.0, CAPACITY.into()), (arrivals, CAPACITY.into())];
    chart.draw_series(AreaSeries::new(series(|second| second.attempts), AXIS.start, LOAD_FILL))?;
    chart.draw_series(AreaSeries::new(series(|second| second.served), AXIS.start, SERVED_FILL))?;
    chart.draw_series([Rectangle::new([(start, AXIS.start), (end, AXIS.end)], INK.mix(0.12).filled())])?;
    chart.draw_series(DashedLineSeries::new(capacity, 7, 4, INK.stroke_width(1)))?;
    chart.draw_series(LineSeries::new(series(|second| second.attempts), LOAD.stroke_width(2)))?;
    chart.draw_series(LineSeries::new(series(|second| second.served), SERVED.stroke_width(2)))?;
    Ok(())
}

fn thousands(count: f64) -> String {
    if count <= AXIS.start {
        // A log scale has no zero, so it is drawn here.
        format!("≤ {count:.0}")
    } else if count < 1000.0 {
        format!("{count:.0}")
    } else {
        format!("{:.0} k", count / 1000.0)
    }
}
