// What web/timeline.js makes of each {text, frames}: why it is refused, or its controls' values in those pixel frames.
(timeline, cases) => {
    const { CONTROLS, complaint, read, valueInFrame, write } = timeline;
    const valuesOf = (found, frames) => Object.fromEntries(CONTROLS.filter((name) => name in found).map((name) => {
        return [name, frames.map((frame) => valueInFrame(found, name, frame))];
    }));
    return cases.map(({ text, frames }) => {
        try {
            const found = read(text);
            const refused = complaint(found);
            return { refused, values: refused ? {} : valuesOf(found, frames), written: write(found) };
        } catch (problem) {
            return { refused: problem.message };
        }
    });
}
