"""Files of other formats, made for the tests: PDF by hand, the others by the libraries that write them."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any


def pdf(
    path: Path, pages: Sequence[str], *, outline: Sequence[tuple[str, int]] = (), title: str = ""
) -> Path:
    """Write a PDF of pages of lines; `outline` gives titles with the page each begins on, from 0."""
    from pypdf import PdfReader, PdfWriter

    writer: Any = PdfWriter(clone_from=PdfReader(BytesIO(_plain_pdf(pages))))
    for name, page in outline:
        writer.add_outline_item(title=name, page_number=page)
    if title:
        writer.add_metadata({"/Title": title})
    with path.open("wb") as file:
        writer.write(file)
    return path


def _plain_pdf(pages: Sequence[str]) -> bytes:
    """Return the bytes of a PDF: a catalogue, its pages in one font, and where each object begins (ISO 32000, 7.5)."""
    count = len(pages)
    kids = " ".join(f"{4 + 2 * number} 0 R" for number in range(count))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {count} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    for number, page in enumerate(pages):
        lines = (
            line.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)") for line in page.split("\n")
        )
        stream = "BT /F1 11 Tf 14 TL 50 750 Td " + " ".join(f"({line}) Tj T*" for line in lines) + " ET"
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {5 + 2 * number} 0 R "
            "/Resources << /Font << /F1 3 0 R >> >> >>"
        )
        objects.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
    data, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(data))
        data += f"{number} 0 obj\n{body}\nendobj\n".encode("cp1252")
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    end = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}"
    return (
        data
        + f"{end}trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{len(data)}\n%%EOF\n".encode()
    )


def word(path: Path) -> Path:
    """Write a document with a title, headings, a list, code, a table with a merged cell, and words after it."""
    import docx

    document: Any = docx.Document()
    document.add_heading("Kettles", 0)
    document.add_paragraph("They boil water.")
    document.add_heading("Using one", 2)
    for words in ("Fill it.", "Switch it on."):
        document.add_paragraph(words, style="List Bullet")
    for line in ("if full:", "    boil()"):
        document.add_paragraph().add_run(line).font.name = "Courier New"
    table = document.add_table(rows=2, cols=3)
    for column, words in enumerate(("name", "litres", "price|unit")):
        table.cell(0, column).text = words
    table.cell(1, 0).merge(table.cell(1, 1)).text = "K1"
    table.cell(1, 2).text = "9"
    document.add_paragraph("Afterwards.")
    document.save(str(path))
    return path


def slides(path: Path) -> Path:
    """Write two slides: one with a title, points of two levels and notes, one with a table and no title."""
    from pptx import Presentation
    from pptx.util import Inches

    made: Any = Presentation()
    first = made.slides.add_slide(made.slide_layouts[1])
    first.shapes.title.text = "Boiling"
    frame = first.placeholders[1].text_frame
    frame.text = "Water boils"
    deeper = frame.add_paragraph()
    deeper.text, deeper.level = "at 100 degrees", 1
    first.notes_slide.notes_text_frame.text = "Say why."
    second = made.slides.add_slide(made.slide_layouts[6])
    place = [Inches(1)] * 4
    table = second.shapes.add_table(2, 2, *place).table
    for row, cells in enumerate((("a", "b"), ("1", "2"))):
        for column, words in enumerate(cells):
            table.cell(row, column).text = words
    made.save(str(path))
    return path


def sheets(path: Path, tables: Mapping[str, Sequence[Sequence[Any]]]) -> Path:
    """Write a workbook."""
    from openpyxl import Workbook

    book: Any = Workbook()
    book.remove(book.active)
    for name, rows in tables.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


CONTAINER = """<?xml version="1.0"?>
<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container">
<rootfiles><rootfile full-path="OPS/book.opf" media-type="application/oebps-package+xml"/></rootfiles></container>"""
PACKAGE = """<?xml version="1.0"?><package xmlns="http://www.idpf.org/2007/opf" version="3.0"><manifest>
<item id="b" href="text/two.xhtml" media-type="application/xhtml+xml"/>
<item id="a" href="text/one%20a.xhtml" media-type="application/xhtml+xml"/>
<item id="c" href="cover.png" media-type="image/png"/>
</manifest><spine><itemref idref="a"/><itemref idref="c"/><itemref idref="b"/></spine></package>"""


def book(path: Path, first: str, second: str) -> Path:
    """Write an EPUB of two chapters, of which the manifest names the second first."""
    chapters = {"OPS/text/one a.xhtml": first, "OPS/text/two.xhtml": second}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mimetype", "application/epub+zip")
        archive.writestr("META-INF/container.xml", CONTAINER)
        archive.writestr("OPS/book.opf", PACKAGE)
        for name, body in chapters.items():
            archive.writestr(name, f"<html><body>{body}</body></html>")
    return path
