"""The mark by which machines tell that a video or a picture was generated: IPTC's digital source type.

It stands in the metadata of the container from the start, and in an XMP packet at the end of an MP4 file, and in each
picture of a folder.
"""

import struct

GENERATED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
GENERATED_METADATA = {"digital_source_type": GENERATED}
PNG_KEYWORD = "XML:com.adobe.xmp"  # XMP specification, part 3: PNG
_XMP_BOX = bytes.fromhex("BE7ACFCB97A942E89C71999491E3AFAC")  # the same: MPEG-4
XMP = f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
   xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:CreatorTool="Knot Forcing">
   <Iptc4xmpExt:DigitalSourceType>{GENERATED}</Iptc4xmpExt:DigitalSourceType>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="r"?>"""
_PACKET = XMP.encode()
GENERATED_BOX = struct.pack(">I", 8 + len(_XMP_BOX) + len(_PACKET)) + b"uuid" + _XMP_BOX + _PACKET  # of an MP4 file
