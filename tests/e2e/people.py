"""Invented customers. No name, address or number here belongs to anyone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Person:
    first_name: str
    last_name: str
    phone: str
    street: str
    city: str
    postal_code: str
    country: str = "LK"

    @property
    def email(self) -> str:
        return f"{self.first_name}.{self.last_name}@example.com".lower()

    @property
    def full_name(self) -> str:
        return f"{self.first_name} {self.last_name}"

    def as_customer(self) -> dict[str, Any]:
        return {
            "firstName": self.first_name,
            "lastName": self.last_name,
            "emailAddress": self.email,
            "phoneNumber": self.phone,
        }

    def address(self, **more: Any) -> dict[str, Any]:
        return {
            "fullName": self.full_name,
            "streetLine1": self.street,
            "city": self.city,
            "postalCode": self.postal_code,
            "countryCode": self.country,
            "phoneNumber": self.phone,
        } | more


NIMAL = Person("Nimal", "Perera", "0771234567", "12 Lake Road", "Kandy", "20000")
KUMARI = Person("Kumari", "Silva", "+94 77 123 4568", "4/1 Temple Lane", "Colombo 05", "00500")
TAMARA = Person("Tamara", "Jayasuriya", "077-123 4569", "88 Galle Road", "Galle", "80000")
RUWAN = Person("Ruwan", "Fernando", "0094711234570", "7 Beach Street", "Negombo", "11500")
PRIYA = Person("Priya", "Selvaratnam", "0761234571", "31 Hospital Road", "Jaffna", "40000")
ASHAN = Person("Ashan", "Wickramasinghe", "0701234572", "9 Hill Crescent", "Nuwara Eliya", "22200")
DILINI = Person("Dilini", "Gunawardena", "(077) 123-4573", "55 Station Road", "Matara", "81000")
MOHAMED = Person("Mohamed", "Farook", "0751234574", "20 Main Street", "Batticaloa", "30000")
YUKI = Person("Yuki", "Tanabe", "+81 90-1234-5675", "1-2-3 Midori", "Osaka", "530-0001", "JP")
HARUTO = Person("Haruto", "Minami", "090 1234 5676", "4-5-6 Aoba", "Sendai", "980-0001", "JP")
NOURA = Person("Noura", "Alsalem", "+965 5123 4577", "Block 3, Street 14", "Salmiya", "20001", "KW")
FAISAL = Person("Faisal", "Alkhaled", "51234578", "Block 8, Street 2", "Hawalli", "32001", "KW")
SANJAYA = Person("Sanjaya", "Bandara", "0771234579", "61 Peradeniya Road", "Kandy", "20000")
ISHARA = Person("Ishara", "Dissanayake", "0771234580", "3 Palm Grove", "Kalutara", "12000")
LAKMAL = Person("Lakmal", "Herath", "94771234581", "18 School Lane", "Kurunegala", "60000")
CHAMARI = Person("Chamari", "Ratnayake", "0771234582", "27 River Side", "Ratnapura", "70000")

REGULARS = (
    Person("Amaya", "Senanayake", "0771234601", "1 Orchid Avenue", "Colombo 03", "00300"),
    Person("Bhanu", "Karunaratne", "0771234602", "2 Orchid Avenue", "Colombo 03", "00300"),
    Person("Chathura", "Liyanage", "+94771234603", "14 Fort Street", "Galle", "80000"),
    Person("Deepa", "Nadarajah", "0771234604", "6 College Road", "Trincomalee", "31000"),
    Person("Eshan", "Abeysekera", "0771234605", "40 Mill Road", "Badulla", "90000"),
    Person("Fathima", "Rizvi", "077 123 46 06", "11 Sea View", "Puttalam", "61300"),
    Person("Gayan", "Samaraweera", "0771234607", "5 Tank Road", "Anuradhapura", "50000"),
    Person("Hashini", "Edirisinghe", "0771234608", "19 Flower Road", "Colombo 07", "00700"),
    Person("Indika", "Weerakoon", "0771234609", "23 Market Street", "Gampaha", "11000"),
    Person("Janaki", "Thambirajah", "0771234610", "8 Church Road", "Vavuniya", "43000"),
    Person("Kasun", "Ekanayake", "0771234611", "2/7 Park Terrace", "Kegalle", "71000"),
    Person("Lihini", "Amarasinghe", "", "36 Lotus Road", "Polonnaruwa", "51000"),
)
