"""The schema of the LXI identification document, which is served beside it.

It describes the elements of http://www.lxistandard.org/InstrumentIdentification/1.0, as the LXI
Device Specification 1.5 section 10.2 has them.
"""

NAMESPACE = "http://www.lxistandard.org/InstrumentIdentification/1.0"

SCHEMA = f"""<?xml version="1.0" encoding="UTF-8"?>
<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" xmlns:lxi="{NAMESPACE}"
    targetNamespace="{NAMESPACE}" elementFormDefault="qualified">
  <xs:complexType name="InterfaceInformation">
    <xs:sequence>
      <xs:element name="InstrumentAddressString" type="xs:string" minOccurs="0"
          maxOccurs="unbounded"/>
    </xs:sequence>
    <xs:attribute name="InterfaceType" type="xs:string" use="required"/>
    <xs:attribute name="InterfaceName" type="xs:string"/>
  </xs:complexType>
  <xs:complexType name="NetworkInformation">
    <xs:complexContent>
      <xs:extension base="lxi:InterfaceInformation">
        <xs:sequence>
          <xs:element name="Hostname" type="xs:string"/>
          <xs:element name="IPAddress" type="xs:string"/>
          <xs:element name="SubnetMask" type="xs:string"/>
          <xs:element name="MACAddress" type="xs:string"/>
          <xs:element name="Gateway" type="xs:string"/>
          <xs:element name="DHCPEnabled" type="xs:boolean"/>
          <xs:element name="AutoIPEnabled" type="xs:boolean"/>
        </xs:sequence>
        <xs:attribute name="IPType" use="required">
          <xs:simpleType>
            <xs:restriction base="xs:string">
              <xs:enumeration value="IPv4"/>
              <xs:enumeration value="IPv6"/>
            </xs:restriction>
          </xs:simpleType>
        </xs:attribute>
      </xs:extension>
    </xs:complexContent>
  </xs:complexType>
  <xs:complexType name="Device">
    <xs:sequence>
      <xs:element name="Manufacturer" type="xs:string" nillable="true" minOccurs="0"/>
      <xs:element name="Model" type="xs:string" nillable="true" minOccurs="0"/>
      <xs:element name="SerialNumber" type="xs:string" nillable="true" minOccurs="0"/>
      <xs:element name="FirmwareRevision" type="xs:string" nillable="true" minOccurs="0"/>
      <xs:element name="ManufacturerDescription" type="xs:string" minOccurs="0"/>
      <xs:element name="HomepageURL" type="xs:anyURI" minOccurs="0"/>
      <xs:element name="DriverURL" type="xs:anyURI" minOccurs="0"/>
      <xs:element name="ConnectedDevices" minOccurs="0">
        <xs:complexType>
          <xs:sequence>
            <xs:element name="DeviceURI" type="xs:anyURI" minOccurs="0" maxOccurs="unbounded"/>
          </xs:sequence>
        </xs:complexType>
      </xs:element>
      <xs:element name="UserDescription" type="xs:string" minOccurs="0"/>
      <xs:element name="IdentificationURL" type="xs:anyURI" minOccurs="0"/>
      <xs:element name="Interface" type="lxi:InterfaceInformation" minOccurs="0"
          maxOccurs="unbounded"/>
      <xs:element name="IVISoftwareModuleName" nillable="true" minOccurs="0"
          maxOccurs="unbounded">
        <xs:complexType>
          <xs:simpleContent>
            <xs:extension base="xs:string">
              <xs:attribute name="Comment" type="xs:string"/>
            </xs:extension>
          </xs:simpleContent>
        </xs:complexType>
      </xs:element>
      <xs:element name="Extension" minOccurs="0">
        <xs:complexType>
          <xs:sequence>
            <xs:any namespace="##any" processContents="lax" maxOccurs="unbounded"/>
          </xs:sequence>
        </xs:complexType>
      </xs:element>
    </xs:sequence>
  </xs:complexType>
  <xs:element name="LXIDevice">
    <xs:complexType>
      <xs:complexContent>
        <xs:extension base="lxi:Device">
          <xs:sequence>
            <xs:element name="LXIClass" minOccurs="0">
              <xs:simpleType>
                <xs:restriction base="xs:string">
                  <xs:enumeration value="A"/>
                  <xs:enumeration value="B"/>
                  <xs:enumeration value="C"/>
                </xs:restriction>
              </xs:simpleType>
            </xs:element>
            <xs:element name="Domain" type="xs:unsignedByte" nillable="true" minOccurs="0"
                maxOccurs="unbounded"/>
            <xs:element name="LXIVersion" type="xs:string"/>
            <xs:element name="LXIExtendedFunctions" minOccurs="0">
              <xs:complexType>
                <xs:sequence>
                  <xs:element name="Function" minOccurs="0" maxOccurs="unbounded">
                    <xs:complexType>
                      <xs:sequence>
                        <xs:any namespace="##any" processContents="lax" minOccurs="0"
                            maxOccurs="unbounded"/>
                      </xs:sequence>
                      <xs:attribute name="FunctionName" type="xs:string" use="required"/>
                      <xs:attribute name="Version" type="xs:string" use="required"/>
                    </xs:complexType>
                  </xs:element>
                </xs:sequence>
              </xs:complexType>
            </xs:element>
          </xs:sequence>
        </xs:extension>
      </xs:complexContent>
    </xs:complexType>
  </xs:element>
</xs:schema>
"""
