"""Words to speak, per language: everyday ones that between them use every position of the lips."""

# ruff: noqa: SIM905
WORDS: dict[str, tuple[str, ...]] = {
    "en": tuple(
        """the a my your our their this that every people paper baby mother father brother happy river water window
        winter summer yellow orange purple blue green moon room two shoe school food move you few music view beautiful
        home boat slow open over boy voice choice coin point joy house town mouth about around down out cow how now wife
        life five nine bright night sky fly time fire day make place table wait eight they train rain see tree green
        three meet people piece week big little sister city finger drink milk six fish bread ten red letter better
        friend never seven cat hat bag happy apple man family garden car park heart large star fast calm hot box shop
        doctor dog want watch all walk small talk warm four more door story before morning cup bus butter mother much
        under Monday love good book look full push could would should bird first word work girl early third again away
        very often maybe probably please because somebody together yesterday tomorrow bring keep find give take put
        believe remember whisper jump laugh wonder change follow bubble pepper member vapour wave fifty""".split()
    ),
    "de": tuple(
        """der die das ein mein dein unser Mutter Vater Bruder Baum Haus Maus Frau blau auch Auge Freund neu heute Leute
        Bäume mein klein Wein Zeit drei weiß Bär spät Käse Mädchen schön hören böse Löffel öffnen zwölf grün müde Tür
        Füße Brücke Mütze fünf gut Buch Schuh Blume Suppe Mund rund rot Brot Ofen Morgen kommen Sonne Sommer Wasser
        Abend Name baden Apfel Garten Mann Tag Bett Geld essen Winter immer finden Kind ihr viel Wiese lieben Papier
        Sprache sprechen Stadt Spiel Pfanne Pferd Kopf Zimmer Wolke Wunder warten oben unten aber vielleicht morgen
        gestern zusammen bitte bleiben bringen machen Woche Nacht Milch ich möchte weil und oder""".split()
    ),
    "fr": tuple(
        """le la un une mon votre notre maison jardin pain vin bon blanc vent temps enfant chambre monde pont son rond
        main matin lundi brun parfum lune rue sur tu vu une plume bleu deux feu peu heureux peur fleur heure soeur neuf
        eau beau bateau rose pomme homme port encore fou vous nous jour rouge tout bouche mère père frère belle fenêtre
        été café bébé parler ami vie livre ville petit fille soleil famille travail oiseau moi voir boire oui huit nuit
        pluie vieux papier bouquet poivre ballon vacances demain hier souvent jamais parce que peut être ensemble
        viens prenez montez cherche aime voudrais chanter musique simple""".split()
    ),
    "es": tuple(
        """el la un una mi tu nuestro casa agua mano mañana amigo padre madre hermano libro ciudad pueblo puerta bueno
        nuevo nueve jueves fuego cuerpo tiempo siempre viento cielo tierra piedra bien diez seis rey ley aire baile
        hoy voy soy mesa pan vino leche pelo dedo verde perro gato pero poco loco ojo rojo rosa flor sol color amor
        mundo luna lluvia uva mucho gusto número música azul pequeño niño sueño noche ocho muchacho chico bonito vaca
        boca beber vivir abuelo papel tiempo campo hombre nombre también nunca ayer vamos quiero puedo tengo vuelve
        porque cuando donde mientras juntos familia trabajo ventana""".split()
    ),
    "it": tuple(
        """il la un una mio tuo nostro casa acqua mano mattina amico padre madre fratello libro città paese porta buono
        nuovo uomo cuore fuoco tempo sempre vento cielo terra pietra bene dieci sei oggi vino pane latte piede verde
        cane gatto poco bocca occhio rosso rosa fiore sole colore amore mondo luna pioggia uva molto gusto numero musica
        azzurro piccolo bambino sogno notte otto ragazzo bello bere vivere nonno carta campo nome anche mai ieri andiamo
        voglio posso perché quando dove insieme famiglia lavoro finestra gnocchi figlio chiesa giorno giugno cibo
        cielo ciao zucchero pesce pepe""".split()
    ),
    "pt": tuple(
        """o a um uma meu teu nosso casa água mão manhã amigo pai mãe irmão livro cidade porta bom novo homem coração
        fogo tempo sempre vento céu terra pedra bem dez seis hoje vinho pão leite pé verde cão gato pouco boca olho
        vermelho rosa flor sol cor amor mundo lua chuva uva muito gosto número música azul pequeno menino sonho noite
        oito rapaz belo beber viver avô papel campo nome também nunca ontem vamos quero posso porque quando onde juntos
        família trabalho janela filho igreja dia junho comida peixe pimenta coelho viagem lugar""".split()
    ),
}
