"""Get an LXI identification document and the schema that it names, and validate it.

usage: lxi_document.py URL

Prints its Manufacturer, Model and the addresses that it gives.
"""

import sys
from urllib.request import urlopen
from xml.etree import ElementTree

import xmlschema

XSI = "{http://www.w3.org/2001/XMLSchema-instance}"


def main() -> None:
    with urlopen(sys.argv[1], timeout=10) as answer:
        text = answer.read().decode("utf-8")
    root = ElementTree.fromstring(text)
    namespace, location = root.get(f"{XSI}schemaLocation", "").split()
    with urlopen(location, timeout=10) as answer:
        schema = xmlschema.XMLSchema(answer.read().decode("utf-8"))
    schema.validate(text)
    found = {"l": namespace}
    print(root.findtext("l:Manufacturer", "", found), root.findtext("l:Model", "", found))
    for address in root.iterfind("l:Interface/l:InstrumentAddressString", found):
        print(address.text)


if __name__ == "__main__":
    main()
